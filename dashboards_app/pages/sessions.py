"""Where members are signed in, and ending it. A part of the page Members."""

from typing import Any

from dashboards_app import parts, ui
from dashboards_app.client import client

_BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari")
_NAMES = {"Edg": "Edge", "OPR": "Opera"}
_SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows",
    "Mac OS X": "macOS", "Linux": "Linux",
}  # fmt: skip


def show() -> None:
    """Every session of the workspace, the one last begun first."""
    found = client().items("/v1/sessions", limit=100)
    if not found:
        ui.nothing("Nobody is signed in")
    for session in found:
        _row(session)


def device(user_agent: str) -> str:
    """A browser's header in words: 'Firefox on Linux'."""
    browser = next((_NAMES.get(name, name) for name in _BROWSERS if name in user_agent), "")
    system = next((name for sign, name in _SYSTEMS.items() if sign in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or (user_agent[:60] or "an unknown device")


def _row(session: dict[str, Any]) -> None:
    badges = ui.badge("this one", "good") if session["current"] else ""
    if session["second_factor"]:
        badges += " " + ui.badge("second factor", "good")
    about = " · ".join(
        [
            device(session["user_agent"]), session["address"], f"by {session['method']}",
            f"seen {ui.ago(session['last_seen_at'])}", f"ends {ui.clock(session['expires_at'])}",
        ]
    )  # fmt: skip
    row = parts.entry(f"session-{session['id']}", session["email"], badges, about)
    if not session["current"] and row.button("End", key=f"end-{session['id']}", type="tertiary"):
        parts.ask(
            "End session",
            f"**{ui.plain(session['email'])}** is signed out there within seconds.",
            "End",
            lambda: client().delete(f"/v1/sessions/{session['id']}"),
            "The session has ended.",
        )
