"""What the page about one's preferences says, and about the workspaces that one may enter.

Belongs here: its HTML, with every value from outside escaped. Not here: what its forms do
(`api.routes.preference_pages`).
"""

from collections.abc import Sequence
from html import escape

from api.pages.forms import alert, invalid
from sluiceway.identity.contracts import Membership
from sluiceway.identity.preferences import THEMES, Preferences, time_zones
from sluiceway.kit.errors import SluicewayError

_THEMES = {"system": "As the system", "light": "Light", "dark": "Dark"}


def overview(
    preferred: Preferences,
    rooms: Sequence[Membership],
    here: int,
    *,
    done: str = "",
    error: SluicewayError | None = None,
) -> str:
    """The whole page. `here`: the workspace that the session is in."""
    said = f'<p class="done" role="status">{escape(done)}</p>' if done else ""
    return (
        '<h1>Preferences</h1><p class="lead">How the app looks for you, and where it begins.</p>'
        f"{said}{alert(error)}{_form(preferred, error)}{_workspaces(rooms, here)}"
    )


def _form(preferred: Preferences, error: SluicewayError | None) -> str:
    themes = _options([(name, _THEMES[name]) for name in THEMES], preferred.theme)
    zones = _options(
        [("", "Automatic"), *((z, z) for z in sorted(time_zones()))],
        preferred.time_zone or "",
    )
    return (
        '<section class="panel"><h2>The app</h2><form method="post" action="/account/preferences">'
        '<div class="adding">'
        f'<label>Colours<select name="theme">{themes}</select></label>'
        f'<label>Time zone<select name="time_zone">{zones}</select></label></div>'
        '<div class="adding"><label>Start page in this workspace<input name="start_page" maxlength="300"'
        f' placeholder="/" spellcheck="false" value="{escape(preferred.start_page or "")}"'
        f'{invalid(error)}></label><button class="button">Keep</button></div></form>'
        '<p class="meta">The path of any page, as its address shows it: /pipelines, or /dashboard?slug=…'
        " A sign-in leads there. The automatic time zone is UTC, and on dashboards the browser’s own.</p>"
        "</section>"
    )


def _workspaces(rooms: Sequence[Membership], here: int) -> str:
    items = "".join(
        f"<li><div><strong>{escape(room.workspace_name)}</strong>"
        f'<span class="meta">{escape(room.organization_name)} · {escape(room.role)}</span></div>'
        f"{_go(room, here)}</li>"
        for room in rooms
    )
    name = next((room.workspace_name for room in rooms if room.workspace_id == here), "")
    return (
        f'<section class="panel"><h2>Your workspaces</h2><ul class="list">{items}</ul>'
        f'<details class="asked"><summary>Leave {escape(name)}</summary><p>What is yours there (dashboards,'
        " links, keys) becomes its longest-standing owner’s, and keys go on working. You are signed out; your"
        ' account stays.</p><form method="post" action="/account/leaving"><button class="button danger">Leave'
        "</button></form></details></section>"
    )


def _go(room: Membership, here: int) -> str:
    if room.workspace_id == here:
        return '<span class="badge">you are here</span>'
    return (
        '<form method="post" action="/account/workspace"><input type="hidden" name="workspace_id"'
        f' value="{room.workspace_id}"><button class="button small"'
        f' aria-label="Go to {escape(room.workspace_name)}">Go there</button></form>'
    )


def _options(values: Sequence[tuple[str, str]], chosen: str) -> str:
    return "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in values
    )
