"""What the pages share: the shell's style, numbers and times in words, and blocks of HTML made from data.

Everything that comes from data is escaped here; pages never write markup of their own from it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from html import escape
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboards_app.canvas.component import NotBuilt, asset_url
from dashboards_app.client import Problem, visitor

_STYLE = Path(__file__).parent / "shell.css"
LOGO = Path(__file__).parent / "logo.svg"
MARK = Path(__file__).parent / "mark.svg"
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()#+.!|<>:$~&-]")
Tone = str  # good | warning | critical | neutral
Align = Literal["text", "number", "middle"]

VERDICTS: dict[str | None, tuple[str, Tone]] = {
    "pass": ("Passed", "good"),
    "warn": ("Warned", "warning"),
    "quarantine": ("Set aside", "warning"),
    "hold": ("On hold", "critical"),
    None: ("Not checked", "neutral"),
}
FRESHNESS: dict[str, tuple[str, Tone]] = {
    "fresh": ("Live", "good"),
    "late": ("Late", "warning"),
    "empty": ("No data yet", "neutral"),
}
STATES: dict[str, tuple[str, Tone]] = {
    "active": ("Active", "good"),
    "paused": ("Paused", "warning"),
    "archived": ("Archived", "neutral"),
}


def style() -> None:
    """The shell's style and fonts. Called once a run, before anything else is shown."""
    faces = ""
    try:
        for role, span in (("font_latin", "U+0000-024F, U+2000-22FF"), ("font_latin_ext", "U+0250-1EFF")):
            faces += (
                f"@font-face{{font-family:Inter;font-weight:100 900;font-display:swap;unicode-range:{span};"
                f'src:url("{asset_url(role)}") format("woff2")}}'
            )
    except NotBuilt:
        pass  # the canvas page says what to do; the others work with the system's font
    # Streamlit says which colours it shows to the app's own element alone; dialogs stand beside that.
    scheme = st.context.theme.type or "light dark"
    st.html(f"<style>:root{{color-scheme:{scheme}}}{faces}{_STYLE.read_text()}</style>")


def mark_current(key: str) -> None:
    """Let the link in the container `key` look chosen (Streamlit tells pages apart, not their parameters)."""
    if all(c.isalnum() or c in "-_" for c in key):
        st.html(f"<style>.st-key-{key} a{{background:var(--sw-chosen)!important;font-weight:600}}</style>")


def chosen() -> str | None:
    """The slug in the page's address, or None. What is none could lead a request somewhere else."""
    slug = st.query_params.get("slug") or ""
    return slug if _SLUG.fullmatch(slug) else None


def plain(text: str) -> str:
    """Text from data for labels and messages, which Streamlit takes for Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", text)


def heading(title: str, text: str = "", *, narrow: bool = False) -> None:
    """A page's title and what it is for. `narrow`: it is read, so its lines are not as wide as the screen."""
    lead = f"<p class='sw-lead'>{escape(text)}</p>" if text else ""
    st.html(f"<div class='sw-heading{' sw-narrow' if narrow else ''}'><h1>{escape(title)}</h1>{lead}</div>")


def badge(text: str, tone: Tone, hint: str = "") -> str:
    """HTML of a small label; the tone is also told by its mark."""
    mark = {"good": "✓", "warning": "!", "critical": "✕"}.get(tone, "·")
    title = f' title="{escape(hint)}"' if hint else ""
    inside = f"<i aria-hidden='true'>{mark}</i>{escape(text)}"
    return f"<span class='sw-badge' data-tone='{tone}'{title}>{inside}</span>"


def tag(text: str, hint: str = "") -> str:
    """HTML of a name beside a title: a role, a version. It judges nothing."""
    title = f' title="{escape(hint)}"' if hint else ""
    return f"<span class='sw-tag'{title}>{escape(text)}</span>"


def who(name: str, email: str) -> str:
    """HTML of a person, for the top of a dialog about them."""
    return f"<p class='sw-who'><strong>{escape(name)}</strong><span>{escape(email)}</span></p>"


def dot(text: str, tone: Tone) -> str:
    return f"<span class='sw-dot' data-tone='{tone}'></span>{escape(text)}"


def count(value: float | None) -> str:
    """1234567 → 1.23 M."""
    if value is None:
        return "–"
    size = abs(value)
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e5, "k")):
        if size >= limit:
            shown = size / (1e3 if unit == "k" else limit)
            return f"{'−' if value < 0 else ''}{shown:.3g} {unit}" if shown < 1000 else f"{shown:,.0f} {unit}"
    return f"{value:,.0f}" if size >= 10 or float(value).is_integer() else f"{value:,.2f}"


def rate(value: float | None) -> str:
    """Events a second."""
    if not value:
        return "0/s" if value == 0 else "–"
    if value < 1:
        return f"{value * 60:.2g}/min"
    return f"{value:.1f}".removesuffix(".0") + "/s" if value < 100 else f"{count(round(value))}/s"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(value: float | None) -> str:
    """Bytes, in powers of 1000 as limits and the API's messages have them: 2500000 → 2.5 MB."""
    if value is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("the loop always returns")


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None) -> str:
    """How long since an ISO time: '4 s ago'."""
    at = moment(text)
    if at is None:
        return "never"
    passed = (datetime.now(UTC) - at).total_seconds()
    if passed < 0:
        return "just now"
    for limit, step, unit in (
        (1, 1, ""),
        (60, 1, "s"),
        (3600, 60, "min"),
        (172800, 3600, "h"),
        (9e12, 86400, "d"),
    ):
        if passed < limit:
            return f"{passed / step:.0f} {unit} ago" if unit else "just now"
    return "long ago"


def zone() -> tzinfo:
    """The zone that this visitor prefers times in; UTC for who prefers none."""
    name = visitor().get("time_zone")
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def clock(text: str | None) -> str:
    """An ISO time as '21 Nov 14:03:07', in the visitor's zone."""
    at = moment(text)
    if at is None:
        return "–"
    at = at.astimezone(zone())
    year = "" if at.year == datetime.now(at.tzinfo).year else f" {at.year}"
    return f"{at.day} {at:%b}{year} {at:%H:%M:%S}"


def day(text: str | None) -> str:
    """An ISO time as '21 Nov 2026', in the visitor's zone."""
    at = moment(text)
    return "–" if at is None else f"{at.astimezone(zone()):%-d %b %Y}"


def zone_name(text: str) -> str:
    """What the visitor's zone is called at an ISO time: 'UTC', 'CET'."""
    at = moment(text) or datetime.now(UTC)
    return at.astimezone(zone()).tzname() or "UTC"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """HTML of a row of figures: [(name, html)]."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{html}</dd></div>" for name, html in pairs)
    return f"<dl class='sw-facts'>{cells}</dl>"


def table(columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], empty: str) -> None:
    """A table of HTML cells; columns are (title, how they are set)."""
    if rows:
        st.html(table_html(columns, rows))
    else:
        nothing(empty)


def table_html(
    columns: Sequence[tuple[str, Align]], rows: Sequence[Sequence[str]], *, pinned: bool = False
) -> str:
    """HTML of a table of HTML cells. `pinned`: the first column stays while the others are scrolled."""
    head = "".join(f"<th scope='col' class='{kind}'>{escape(title)}</th>" for title, kind in columns)
    body = "".join(
        "<tr>"
        + "".join(f"<td class='{kind}'>{cell}</td>" for (_, kind), cell in zip(columns, row, strict=True))
        + "</tr>"
        for row in rows
    )
    kind = "sw-table pinned" if pinned else "sw-table"
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class='{kind}' tabindex='0'><table>{inside}</table></div>"


def tick(yes: bool) -> str:
    """HTML of a yes in a table; a no is a quiet dot, so that the eye keeps to its line."""
    return (
        "<span class='sw-tick' role='img' aria-label='yes'>✓</span>"
        if yes
        else "<span class='sw-tick no' role='img' aria-label='no'>·</span>"
    )


def some(amount: int, noun: str) -> str:
    """'1 member', '1,200 members'."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def nothing(title: str, hint: str = "") -> None:
    """The state of a list with nothing in it."""
    st.html(f"<div class='sw-empty'><strong>{escape(title)}</strong><span>{escape(hint)}</span></div>")


def problem(found: Problem) -> None:
    """An error in words, with what to do next."""
    if found.status == 401:
        st.html(
            "<div class='sw-empty'><strong>This page's session has ended</strong>"
            "<span>You signed out, or went to another workspace in another tab.</span>"
            "<a href='/sign-in' target='_self'>Go on</a></div>"
        )
        return
    if found.code == "confirmation_required":
        st.html(
            "<div class='sw-empty'><strong>Confirm that it is you</strong>"
            "<span>This needs a fresh proof, ten minutes long. Come back here afterwards.</span>"
            "<a href='/confirm?next=/confirmed' target='_blank'>Confirm</a></div>"
        )
        return
    if found.status == 403 and found.method == "GET":
        nothing("You may not see this", found.detail or "Ask an owner of the workspace for permission.")
        return
    lines = "".join(f"<li>{escape(line)}</li>" for line in found.errors)
    st.html(
        f"<div class='sw-problem' role='alert'><strong>{escape(found.title)}</strong>"
        f"<span>{escape(found.detail)}</span>{f'<ul>{lines}</ul>' if lines else ''}</div>"
    )


@contextmanager
def guarded() -> Iterator[None]:
    """Show a `Problem` of the block instead of a traceback."""
    try:
        yield
    except Problem as found:
        problem(found)
    except NotBuilt as found:
        nothing("The canvas is not built", str(found))
