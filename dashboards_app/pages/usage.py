"""What the workspace uses of what it may: events, bytes, seats; by day and pipeline; and the limits."""

from collections.abc import Sequence
from datetime import date, timedelta
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_TITLES = {
    "events": "Events this month",
    "ingested_bytes": "Received this month",
    "stored_bytes": "Stored",
    "seats": "Seats",
}
_TONES = {"ok": "good", "soft": "warning", "hard": "critical"}
_WORDS = {"ok": "", "soft": "past the soft limit", "hard": "limit reached"}
_GIGA = 1024**3


def show() -> None:
    """The measures with their limits, the month day by day, and who uses it."""
    may = parts.permissions()
    found = client().get("/v1/usage")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading(
            "Usage", f"Since {date.fromisoformat(found['month']):%-d %B}; counts begin anew each month."
        )
        if "quota:manage" in may and st.button("Limits", icon=":material/tune:"):
            _limits(found["measures"])
    cards = "".join(map(_card, found["measures"]))
    st.html(f"<div class='sw-usage'>{cards}</div>")
    if not found["days"]:
        ui.nothing("Nothing has arrived this month", "Days and pipelines are shown once events come in.")
        return
    st.html(_month(found["month"], found["days"]))
    ui.table(
        [("Pipeline", "text"), ("Events", "number"), ("Received", "number"), ("Stored", "number")],
        [
            [
                escape(pipeline["pipeline"]), f"{pipeline['events']:,}",
                ui.size(pipeline["ingested_bytes"]), ui.size(pipeline["stored_bytes"]),
            ]
            for pipeline in found["pipelines"]
        ],
        "No pipelines",
    )  # fmt: skip


def amount(measure: str, value: float | None) -> str:
    """A measure's value in its unit."""
    if value is None:
        return "no limit"
    return ui.size(value) if measure.endswith("bytes") else ui.count(value)


def _card(measure: dict[str, Any]) -> str:
    name, limits = measure["measure"], measure["limits"]
    most = min((v for v in (limits["hard"], limits["ceiling"]) if v is not None), default=None)
    tone = _TONES[measure["state"]]
    share = 0.0 if not most else min(1.0, measure["used"] / most)
    of = f"of {amount(name, most)}" if most is not None else "no limit"
    bar = f"<i style='width:{share * 100:.1f}%'></i>" if most is not None else ""
    words = _WORDS[measure["state"]]
    return (
        f"<section data-tone='{tone}'><h2>{_TITLES.get(name, escape(name))}</h2>"
        f"<p><strong>{amount(name, measure['used'])}</strong> <span>{of}</span></p>"
        f"<div role='img' aria-label='{share:.0%} used'>{bar}</div><small>{words}</small></section>"
    )


def _month(month: str, days: Sequence[dict[str, Any]]) -> str:
    """Events a day as bars, every day of the month in its place."""
    first = date.fromisoformat(month)
    after = (first + timedelta(days=32)).replace(day=1)
    counts = {date.fromisoformat(day["day"]): day["events"] for day in days}
    most = max(counts.values(), default=0) or 1
    bars = "".join(
        f"<div title='{day:%-d %B}: {counts.get(day, 0):,} events'>"
        f"<i style='height:{100 * counts.get(day, 0) / most:.1f}%'></i><small>{day.day}</small></div>"
        for day in (first + timedelta(days=n) for n in range((after - first).days))
    )
    return f"<figure class='sw-month'><figcaption>Events a day (UTC)</figcaption><div>{bars}</div></figure>"


@st.dialog("Limits")
def _limits(measures: Sequence[dict[str, Any]]) -> None:
    st.write(
        "Past a **soft** limit people are told. At a **hard** one nothing more is taken: senders get 429"
        " until the month ends, and nobody can join."
    )
    wanted = []
    with st.form("limits", border=False):
        for measure in measures:
            name = measure["measure"]
            unit = _GIGA if name.endswith("bytes") else 1
            title = f"{_TITLES.get(name, name)}{' (GB)' if unit > 1 else ''}"
            left, right = st.columns(2)
            soft = left.number_input(f"{title}: soft", 0, value=_shown(measure["limits"]["soft"], unit))
            hard = right.number_input(
                "hard", 0, value=_shown(measure["limits"]["hard"], unit), key=f"hard-{name}"
            )
            wanted.append(
                {
                    "measure": name,
                    "soft": None if soft is None else int(soft * unit),
                    "hard": None if hard is None else int(hard * unit),
                }
            )
        sent = st.form_submit_button("Save", type="primary")
    if sent and parts.done(lambda: client().put("/v1/quotas", {"quotas": wanted}), "The limits hold."):
        st.rerun()


def _shown(value: int | None, unit: int) -> int | None:
    return None if value is None else value // unit
