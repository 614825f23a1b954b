"""What the workspace uses of what it may: events, bytes, seats; by day and pipeline; and the limits."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_TITLES = {
    "events": "Events",
    "ingested_bytes": "Received",
    "stored_bytes": "Stored",
    "seats": "Seats",
}
_OF_THE_MONTH = ("events", "ingested_bytes")
_TONES = {"ok": "good", "soft": "warning", "hard": "critical"}
_WORDS = {"soft": "past the soft limit", "hard": "limit reached"}
_GIGA = 10**9
_MONTHS = 13


def show() -> None:
    """The measures with their limits, a month day by day, and who uses it."""
    may = parts.permissions()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading("Usage", "Events and bytes count a calendar month (UTC), and begin anew with the next.")
        months = _months()
        month = st.selectbox(
            "Month",
            months,
            format_func=lambda first: f"{first:%B %Y}",
            label_visibility="collapsed",
            width=170,
        )
        found = client().get("/v1/usage", month=month.isoformat())
        if "quota:manage" in may and st.button("Limits", icon=":material/tune:"):
            _limits(found["measures"])
    running = month == months[0]
    cards = "".join(card(one, running, found["invited"]) for one in found["measures"])
    st.html(f"<div class='sw-usage'>{cards}</div>")
    if found["days"]:
        st.html(_month(found["month"], found["days"]))
    elif running:
        ui.nothing("Nothing has arrived this month", "Days and pipelines are shown once events come in.")
        return
    else:
        ui.nothing(f"Nothing arrived in {month:%B %Y}")
        return
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


def card(measure: dict[str, Any], running: bool, invited: int = 0) -> str:
    """HTML of one measure against its limits. `running`: it is shown of the month that is not over.

    `invited`: who was asked to come, and has a seat until they answer.
    """
    name, limits = measure["measure"], measure["limits"]
    most = min((v for v in (limits["hard"], limits["ceiling"]) if v is not None), default=None)
    judged = running or name not in _OF_THE_MONTH  # a month that is over reaches no limit any more
    tone = _TONES[measure["state"]] if judged else "good"
    share = 0.0 if not most else min(1.0, measure["used"] / most)
    of = f"of {amount(name, most)}" if most is not None else "no limit"
    bar = f"<i style='width:{share * 100:.1f}%'></i>" if most is not None else ""
    title = _TITLES.get(name, escape(name)) + (" this month" if running and name in _OF_THE_MONTH else "")
    words = " · ".join(filter(None, _told(measure, judged, invited)))
    return (
        f"<section data-tone='{tone}'><h2>{title}</h2>"
        f"<p><strong>{amount(name, measure['used'])}</strong> <span>{of}</span></p>"
        f"<div role='img' aria-label='{share:.0%} used'>{bar}</div><small>{words}</small></section>"
    )


def _told(measure: dict[str, Any], judged: bool, invited: int) -> list[str]:
    """What is said below a measure: which limit is reached, the soft one, how old the figure is."""
    name, soft = measure["measure"], measure["limits"]["soft"]
    told = [_WORDS.get(measure["state"], "") if judged else ""]
    if name == "seats" and invited:
        told.append(f"and {invited:,} invited")
    if soft is not None:
        told.append(f"soft limit {amount(name, soft)}")
    if name == "stored_bytes":
        told.append(f"measured {ui.ago(measure['as_of'])}" if measure["as_of"] else "not measured yet")
    return told


def _months() -> list[date]:
    """First days of the running month and those before it, the newest first."""
    first = datetime.now(UTC).date().replace(day=1)
    found = [first]
    while len(found) < _MONTHS:
        found.append((found[-1] - timedelta(days=1)).replace(day=1))
    return found


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
        " until the month ends, and nobody can join. Events and bytes received count a month."
    )
    with st.form("limits", border=False):
        wanted = [_fields(measure) for measure in measures]
        sent = st.form_submit_button("Save", type="primary")
    if not sent:
        return
    changed = [now for now, measure in zip(wanted, measures, strict=True) if now != _held(measure)]
    if not changed or parts.done(
        lambda: client().put("/v1/quotas", {"quotas": changed}), "The limits hold within seconds."
    ):
        st.rerun()


def _fields(measure: dict[str, Any]) -> dict[str, Any]:
    """The soft and the hard limit of one measure, as the API takes them."""
    held, name = _held(measure), measure["measure"]
    title = f"{_TITLES.get(name, name)}{' (GB)' if name.endswith('bytes') else ''}"
    ceiling = measure["limits"]["ceiling"]
    bound = None if ceiling is None else f"Whoever runs the installation allows {amount(name, ceiling)}."
    left, right = st.columns(2)
    return {
        "measure": name,
        "soft": _limit(left, f"{title}: soft", held["soft"], name, None),
        "hard": _limit(right, f"{title}: hard", held["hard"], name, bound),
    }


def _held(measure: dict[str, Any]) -> dict[str, Any]:
    limits = measure["limits"]
    return {"measure": measure["measure"], "soft": limits["soft"], "hard": limits["hard"]}


def _limit(place: Any, title: str, held: int | None, name: str, help_: str | None) -> int | None:
    """A field for one limit; what nobody touches stays as it is to the byte."""
    if not name.endswith("bytes"):
        found = place.number_input(title, 0, value=held, placeholder="None", help=help_)
        return None if found is None else int(found)
    shown = None if held is None else round(held / _GIGA, 3)
    found = place.number_input(
        title, 0.0, value=shown, step=1.0, format="%.12g", placeholder="None", help=help_
    )
    if found == shown:
        return held
    return None if found is None else round(found * _GIGA)
