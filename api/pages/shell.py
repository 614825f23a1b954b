"""The frame of the pages that the API serves itself: one design, styles and the one script from files.

Belongs here: putting content into the frame, the files it is made of. Not here: any page's content
(`api.routes.pages`, `api.error_pages`).
"""

import hashlib
from functools import cache
from html import escape
from importlib.resources import files

from api import pages

ASSETS = frozenset({"page.css", "mark.svg", "channels.svg", "passkeys.js", "preferences.js"})


def page(title: str, content: str) -> str:
    """A whole HTML document. `content` is HTML: whatever came from outside is escaped in it already."""
    text = read("sign_in.html").decode()
    for name, value in (("title", escape(title)), ("version", version()), ("content", content)):
        text = text.replace("{{" + name + "}}", value)
    return text


def account(title: str, content: str, who: str) -> str:
    """A whole document about the person's own account: one column below a line that says who they are."""
    text = read("account.html").decode()
    values = {"title": escape(title), "version": version(), "who": escape(who), "content": content}
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text


@cache
def read(name: str) -> bytes:
    """One of the files beside this module."""
    return (files(pages) / name).read_bytes()


@cache
def version() -> str:
    """Changes when one of the files does: part of their addresses."""
    return hashlib.sha256(b"".join(read(name) for name in sorted(ASSETS))).hexdigest()[:12]
