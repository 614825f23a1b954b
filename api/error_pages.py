"""What a person sees where a program gets problem details: the same error as a page, with a way on.

Belongs here: who is shown a page, and its words. An error of the platform's own making says nothing of its
cause, and what is not there does not repeat what was asked for: neither tells an attacker anything. Not here:
which exception is which error (`api.errors`), messages above a form (`api.routes.pages`).
"""

from collections.abc import Mapping
from html import escape

from api.pages.shell import page
from sluiceway.kit.errors import SluicewayError

MEDIA_TYPE = "text/html; charset=utf-8"
# Answers for programs, whatever looks at them.
_PROGRAMS = ("/v1", "/scim", "/healthz", "/readyz", "/metrics", "/openapi.json", "/assets", "/_stcore")
_WORDS = {
    404: ("There is nothing here", "The address may be mistyped, or what was here is gone."),
    405: ("That is not offered here", "This page cannot be used in that way."),
    413: ("That is too much", "What was sent is larger than this page takes."),
    500: ("Something went wrong", "It is in the log, and not your fault. Try again in a moment."),
    503: ("Not just now", "The platform cannot answer at the moment. Try again shortly."),
}


def wants_page(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a person in a browser waits for the answer: a page was opened or a form sent."""
    if method not in ("GET", "HEAD", "POST") or _is_below(path, _PROGRAMS):
        return False
    mode = headers.get("sec-fetch-mode")
    if mode is not None:
        return mode == "navigate"
    return headers.get("accept", "").startswith("text/html")


def error_page(error: SluicewayError, request_id: str | None) -> str:
    """The whole HTML document."""
    title, words = _WORDS.get(error.status, (error.title, error.detail))
    number = f'<p class="hint">Error {error.status}'
    if error.status >= 500 and request_id:
        number += f", request {escape(request_id)}"
    content = (
        f'<h1>{escape(title)}</h1><p class="lead">{escape(words)}</p>'
        '<p class="on"><a class="button" href="/">To the start page</a></p>'
        f"{number}.</p>"
    )
    return page(title, content)


def _is_below(path: str, parents: tuple[str, ...]) -> bool:
    return any(path == parent or path.startswith(f"{parent}/") for parent in parents)
