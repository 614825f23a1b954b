"""All pipelines and how they are doing, renewed every two seconds."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client
from dashboards_app.pages.intake import intake_badge


def show() -> None:
    """Every pipeline with its state, intake, rate, lag, last batch, dead letters and gate."""
    ui.heading("Pipelines", "What comes in, how fast, and whether it can be trusted.")
    _list()


@st.fragment(run_every="2s")
def _list() -> None:
    with ui.guarded():
        found = client().items("/v1/pipelines", limit=200)
        if not found:
            ui.nothing("No pipelines yet", "Apply one: sluiceway apply examples/pipelines/nyc-flights.yml")
            return
        _totals(found)
        for item in found:
            _row(item)


def _totals(found: list[dict[str, Any]]) -> None:
    status = [item["status"] for item in found]
    lags = [s["lag_s"] for s in status if s["lag_s"] is not None]
    letters = sum(s["open_dead_letters"] + s["held_dead_letters"] for s in status)
    st.html(
        ui.facts(
            [
                ("Pipelines", str(len(found))),
                ("Events a second", ui.rate(sum(s["rate"] for s in status))),
                ("Events so far", ui.count(sum(s["events"] for s in status))),
                ("Slowest to load", ui.seconds(max(lags)) if lags else "–"),
                ("Open dead letters", ui.count(letters)),
            ]
        )
    )


def _row(item: dict[str, Any]) -> None:
    status = item["status"]
    state = ui.STATES[item["state"]] if item["state"] != "active" else ui.FRESHNESS[status["freshness"]]
    verdict = ui.VERDICTS[status["verdict"] if item.get("suite") else None]
    letters = status["open_dead_letters"] + status["held_dead_letters"]
    cells = [
        ("State", ui.dot(*state)),
        ("Intake", intake_badge(status)),
        ("Rate", ui.rate(status["rate"])),
        ("Lag", ui.seconds(status["lag_s"])),
        ("Last batch", _batch(status)),
        ("Events", ui.count(status["events"])),
        ("Dead letters", f"<span data-tone='{'warning' if letters else ''}'>{ui.count(letters)}</span>"),
        (
            "Gate",
            ui.badge(*verdict, hint=f"Suite {item['suite']}" if item.get("suite") else "No suite guards it"),
        ),
    ]
    with st.container(key=f"row-{item['slug']}", border=True):
        inside = "".join(f"<div><dt>{name}</dt><dd>{html}</dd></div>" for name, html in cells)
        st.html(
            f"<div class='sw-pipeline'><div class='sw-name'><strong>{escape(item['title'])}</strong>"
            f"<span>{escape(item['slug'])}</span></div><dl>{inside}</dl></div>"
        )
        st.page_link(
            st.session_state["pages"]["pipeline"],
            label=ui.plain(item["title"]),
            query_params={"slug": item["slug"]},
        )


def _batch(status: dict[str, Any]) -> str:
    if not status["last_batch_at"]:
        return "–"
    events = status["last_batch_events"]
    amount = f"{ui.count(events)} event{'' if events == 1 else 's'}"
    return f"{ui.ago(status['last_batch_at'])} <small>{amount}</small>"
