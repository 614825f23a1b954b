"""What browsers are told with every answer: which scripts may run, who may frame a page, what may leave it.

Belongs here: the Content-Security-Policy and its neighbours, by the kind of answer. Not here: who may read an
answer (`api.security`), what other sites' pages may send (`api.cross_origin`).

Three kinds. *Data* (the API) is never shown as a page, so it may do nothing at all. *Forms* (sign-in and its
like) are ours to the last byte: no inline style, never in a frame. The *app* is Streamlit's page and the
canvas, and needs more:
- `style-src 'unsafe-inline'`: Streamlit's styles (emotion) and Plotly's are made at run time and put into
  the page as `<style>` and `style=`; neither takes a nonce. A style runs no script, and with `img-src`,
  `font-src` and `connect-src` closed it cannot carry anything away.
- the hash of Streamlit's own inline script, computed from the installed file.
- `worker-src blob:`, `img-src blob: data:`, `font-src data:`: charts as pictures, fonts in styles.
Nothing has `unsafe-eval`, nothing an inline script.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from api.security import is_https
from sluiceway.infra.settings import Settings

HSTS = "max-age=31536000"
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# First parts of the paths whose answers are data for programs. Below `assets` lie the app's bundles, whose
# worker is bound by the policy that comes with it.
_DATA = frozenset({"v1", "scim", "healthz", "readyz", "metrics", "openapi.json"})
_FRAMED = frozenset({"link", "assets"})

_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), midi=(),"
        " display-capture=(), browsing-topics=()"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
}


class BrowserRules:
    """The headers of every answer. With the Streamlit app its page's own inline scripts are let in by hash.

    `owned`: first parts of the paths that the API answers itself; all others are the app's.
    """

    def __init__(self, settings: Settings, *, app: bool, owned: frozenset[str]) -> None:
        ancestors = settings.frame_ancestors
        scripts = _streamlit_script_hashes() if app else ()
        shared = {**_EVERYWHERE, **({"Strict-Transport-Security": HSTS} if is_https(settings) else {})}
        never = {"X-Frame-Options": "DENY"}
        self._owned = owned
        self._data = {**shared, **never, "Content-Security-Policy": _data_policy()}
        self._forms = {**shared, **never, "Content-Security-Policy": _forms_policy()}
        self._app = {
            **shared,
            **({} if ancestors else never),
            "Content-Security-Policy": _app_policy(scripts, ancestors),
        }

    def headers(self, path: str) -> Mapping[str, str]:
        """What goes with an answer from this path, unless the answer says otherwise itself."""
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        if first in _DATA:
            return self._data
        if first in self._owned and first not in _FRAMED:
            return self._forms
        return self._app


def _data_policy() -> str:
    return "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _forms_policy() -> str:
    return _joined(
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )


def _app_policy(script_hashes: tuple[str, ...], ancestors: tuple[str, ...]) -> str:
    return _joined(
        "default-src 'self'",
        " ".join(["script-src 'self'", *script_hashes]),
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        " ".join(["frame-ancestors", *(ancestors or ("'none'",))]),
    )


def _joined(*directives: str) -> str:
    return "; ".join(directives)


def _streamlit_script_hashes() -> tuple[str, ...]:
    spec = find_spec("streamlit")
    if spec is None or spec.origin is None:
        return ()
    page = Path(spec.origin).parent / "static" / "index.html"
    scripts = _INLINE_SCRIPT.findall(page.read_text(encoding="utf-8"))
    return tuple(f"'sha256-{b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
