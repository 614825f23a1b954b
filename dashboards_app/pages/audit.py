"""The audit log: who did what, when and from where; searched, checked and taken away as a file."""

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from html import escape
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client

PAGE = 50
_RANGES = {
    "day": ("24 hours", 1),
    "week": ("7 days", 7),
    "month": ("30 days", 30),
    "all": ("All", 0),
    "days": ("Days …", 0),
}
_REFUSED = ("refused", "throttled", "failed", "locked")
_LOST = ("deleted", "removed", "revoked", "ended", "erased")


def show() -> None:
    """Newest first, with what changed; conditions above, the check of the chain and the file beside."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading(
            "Audit log", "Who did what, when and from where. Entries are chained: none can be changed."
        )
        if st.button("Check the chain", icon=":material/verified:"):
            _verify()
    wanted = _conditions()
    found = client().get("/v1/audit", limit=PAGE, cursor=_cursor(wanted), **wanted)
    if not found["items"]:
        ui.nothing("Nothing found", "No entry fits all of these conditions.")
        return
    st.html(_files(wanted))
    st.html(f"<div class='sw-log'>{''.join(map(line, found['items']))}</div>")
    with st.container(horizontal=True):
        if _cursor(wanted) and st.button("Newest", icon=":material/vertical_align_top:", type="tertiary"):
            st.session_state.pop("audit-cursor")
            st.rerun()
        if found.get("next_cursor") and st.button("Older", icon=":material/expand_more:", type="tertiary"):
            st.session_state["audit-cursor"] = (_key(wanted), found["next_cursor"])
            st.rerun()


def _files(wanted: dict[str, str]) -> str:
    """HTML of the links that take all that fits the conditions away."""
    links = " ".join(
        f"<a href='{escape(f'/v1/audit/export?{urlencode(dict(wanted, format=kind))}')}' download>{name}</a>"
        for kind, name in (("csv", "CSV"), ("ndjson", "NDJSON"))
    )
    return f"<p class='sw-files'>All that fits, as a file: {links}</p>"


def _conditions() -> dict[str, str]:
    """What is looked for, as the API takes it; what is empty is left out."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Text", placeholder="anything it says", width=210)
        actor = st.text_input("Who", placeholder="name, address or id", width=190)
        actions = [None, *client().items("/v1/audit/actions")]
        action = st.selectbox("What", actions, format_func=lambda a: a or "Anything", width=230)
        span = st.segmented_control(
            "When", list(_RANGES), format_func=lambda name: _RANGES[name][0], default="week"
        )
    since, until = (
        between(_picked(), ui.zone()) if span == "days" else (_since(_RANGES[span or "all"][1]), None)
    )
    wanted = {
        "text": text.strip(), "actor": actor.strip(), "action": action, "since": since, "until": until,
    }  # fmt: skip
    return {name: str(value) for name, value in wanted.items() if value}


def _since(days: int) -> str | None:
    """So many days ago, to the hour: the conditions stay the same while one goes through the pages."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return (hour - timedelta(days=days)).isoformat() if days else None


def _picked() -> Sequence[date]:
    """Two days of the calendar; one while the second is still to be chosen."""
    today = datetime.now(ui.zone()).date()
    found = st.date_input("From, to", (today - timedelta(days=7), today), format="YYYY-MM-DD", width=230)
    return found if isinstance(found, tuple) else (found,)


def between(days: Sequence[date], zone: tzinfo) -> tuple[str | None, str | None]:
    """From the first of the days to the end of the last, where the visitor's days begin."""
    if not days:
        return None, None
    since = datetime.combine(days[0], time(), zone)
    until = datetime.combine(days[-1] + timedelta(days=1), time(), zone)
    return since.astimezone(UTC).isoformat(), until.astimezone(UTC).isoformat()


def _key(wanted: dict[str, str]) -> str:
    return json.dumps(wanted, sort_keys=True)


def _cursor(wanted: dict[str, str]) -> str | None:
    """Where this search goes on; another one begins at the newest."""
    kept = st.session_state.get("audit-cursor")
    return kept[1] if kept and kept[0] == _key(wanted) else None


def line(item: dict[str, Any]) -> str:
    """HTML of one entry, which opens to what changed and to everything else that is known of it."""
    verb = item["action"].rpartition(".")[2]
    tone = "critical" if verb in _REFUSED else "warning" if verb in _LOST else ""
    action = ui.badge(item["action"], tone) if tone else ui.tag(item["action"])
    actor = item["actor"]
    who = (
        "somebody whose account is gone" if item["erased"] else actor["name"] or actor["id"] or actor["kind"]
    )
    where = escape(" · ".join(filter(None, [who, actor["address"]])))
    target = escape(" ".join(filter(None, [item["target"], item["target_id"]])))
    shown = (
        f"<time>{ui.clock(item['at'])}</time>{action}"
        f"<span title='{where}'>{where}</span><em title='{target}'>{target}</em>"
    )
    rows = [*_changes(item["before"] or {}, item["after"] or {}), *_told(item["detail"] or {})]
    told = f"<dl>{''.join(rows)}</dl>" if rows else ""
    return (
        f"<details><summary class='sw-audit'>{shown}</summary>"
        f"<div class='sw-changes'>{told}<small>{_foot(item)}</small></div></details>"
    )


def _foot(item: dict[str, Any]) -> str:
    """HTML of what else there is to know: exactly when, by which request and browser, where in the chain."""
    at = datetime.fromisoformat(item["at"]).astimezone(UTC)
    told = [
        f"{at:%Y-%m-%d %H:%M:%S.%f} UTC", f"request {item['request_id'] or '–'}", item["actor"]["user_agent"],
        f"entry {item['seq']:,}, {item['hash'][:16]}…",
    ]  # fmt: skip
    return escape(" · ".join(filter(None, told)))


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Each value as it was and as it is; one that was not there, or is no more, is struck by nothing."""
    return [
        f"<dt>{escape(name)}</dt><dd>{_value(before, name, 'del')}{_value(after, name, 'ins')}</dd>"
        for name in dict.fromkeys([*before, *after])
    ]


def _told(detail: dict[str, Any]) -> list[str]:
    return [f"<dt>{escape(name)}</dt><dd>{_value(detail, name, 'span')}</dd>" for name in detail]


def _value(found: dict[str, Any], name: str, element: str) -> str:
    if name not in found:
        return ""
    value = found[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"<{element}>{escape(text)}</{element}>"


@st.dialog("The chain of entries")
def _verify() -> None:
    with st.spinner("Computing every hash again …"):
        found = client().get("/v1/audit/verification")
    if found["intact"]:
        st.html(ui.badge("Intact", "good") + f"<p>{found['entries']:,} entries are as they were written.</p>")
    else:
        broken = found["broken"]
        st.html(
            ui.badge("Broken", "critical")
            + f"<p>Entry {broken['seq']:,} is not as it was written: {escape(broken['what'])}</p>"
        )
    st.caption("Note this elsewhere: nobody can then rewrite what was before it unseen.")
    st.code(found["head"]["head"], language=None, wrap_lines=True)
