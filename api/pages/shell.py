"""The frame of the pages that the API serves itself: one design, styles and the one script from files.

Belongs here: the one head of all of them, what surrounds a content, the files they are made of. Not here: any
page's content (`api.routes`, `api.error_pages`), what a person prefers (`sluiceway.identity.preferences`).
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files

from api import pages

ASSETS = frozenset({"page.css", "mark.svg", "channels.svg", "passkeys.js", "preferences.js"})
# The pages about one's own account, as they are named to one another.
ACCOUNT = {
    "/account": "Signing in",
    "/account/preferences": "Preferences",
    "/account/data": "Your data",
}
_PLACE = re.compile(r"\{\{([a-z]+)\}\}")


def page(title: str, content: str) -> str:
    """A whole HTML document. `content` is HTML: whatever came from outside is escaped in it already."""
    return document(title, "split", _filled("split.html", {"content": content}), script=_passkeys())


def account(title: str, content: str, who: str, *, here: str, theme: str = "system") -> str:
    """A whole document about the person's own account: one column below a line that says who they are.

    `here`: which of `ACCOUNT` it belongs to. `theme`: the colours that the person prefers.
    """
    parts = "".join(
        f'<a href="{path}"{" aria-current=page" if path == here else ""}>{name}</a>'
        for path, name in ACCOUNT.items()
    )
    body = _filled("account.html", {"who": escape(who), "content": content, "parts": parts})
    return document(title, "account", body, script=_passkeys(), theme=theme)


def linked(title: str, slug: str, access: str, script: str) -> str:
    """A whole document around a dashboard that a link shows; `script`: the address of what draws it."""
    body = _filled("linked.html", {"slug": escape(slug), "access": escape(access)})
    return document(title, "linked", body, script=script, robots="noindex, nofollow")


def document(
    title: str, kind: str, body: str, *, script: str = "", robots: str = "noindex", theme: str = "system"
) -> str:
    """What all of them have around their body. `kind`: the style's name for it."""
    return _filled(
        "frame.html",
        {
            "title": escape(title),
            "kind": kind,
            "body": body,
            "robots": robots,
            "theme": escape(theme),
            "script": f'<script type="module" src="{escape(script)}"></script>' if script else "",
        },
    )


@cache
def read(name: str) -> bytes:
    """One of the files beside this module."""
    return (files(pages) / name).read_bytes()


@cache
def version() -> str:
    """Changes when one of the files does: part of their addresses."""
    return hashlib.sha256(b"".join(read(name) for name in sorted(ASSETS))).hexdigest()[:12]


def _passkeys() -> str:
    return f"/assets/passkeys.js?v={version()}"


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A file with its places filled in, all at once: what a value says is never read as a place."""
    known = {"version": version(), **values}
    return _PLACE.sub(lambda place: known[place[1]], read(name).decode())
