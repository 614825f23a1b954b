"""What the gates found: every expectation of a pipeline over the last day."""

from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client

ACTIONS = {"quarantine": "sets rows aside", "hold": "holds the batch", "warn": "warns"}
SPANS = {"1 hour": 1, "24 hours": 24, "7 days": 168}


def show() -> None:
    """Expectations of the chosen pipeline, those that failed most first."""
    ui.heading("Quality", "What the gates expect of the data, and what they found.")
    pipelines = client().items("/v1/pipelines", limit=200)
    if not pipelines:
        ui.nothing("No pipelines yet", "A suite guards a pipeline: apply one first.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        busiest = sorted(pipelines, key=lambda p: -p["status"]["events"])
        titles = {p["slug"]: p["title"] for p in busiest}
        slug = st.selectbox(
            "Pipeline", list(titles), format_func=titles.__getitem__, key="quality-pipeline", width=280
        )
        span = (
            st.segmented_control("Over the last", list(SPANS), default="24 hours", key="quality-span")
            or "24 hours"
        )
    with ui.guarded():
        expectations(slug, SPANS[span])


def expectations(slug: str, hours: int = 24) -> None:
    """A table of the pipeline's expectations with how often each failed. Raises `Problem`."""
    since = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    found = client().items("/v1/quality/summary", pipeline=slug, since=since)
    ui.table(
        [
            ("Expectation", "text"), ("If it fails", "text"), ("Held", "text"),
            ("Values checked", "number"), ("Unexpected", "number"), ("Batches", "number"),
            ("Failed batches", "number"), ("Last failure", "text"),
        ],
        [_row(r) for r in found],
        "No expectation was checked in this time",
    )  # fmt: skip


def _row(result: dict[str, Any]) -> list[str]:
    evaluated, unexpected = result["evaluated"], result["unexpected"]
    share = 1 - unexpected / evaluated if evaluated else 1.0
    failed = result["failed_batches"]
    tone = "good" if not failed else "critical" if result["action"] == "hold" else "warning"
    held = "100%" if not unexpected else f"{min(share, 0.9999):.2%}"
    return [
        f"<strong>{escape(result['expectation'])}</strong> <small>{escape(result['suite'])}</small>",
        escape(ACTIONS[result["action"]]),
        ui.badge(held, tone),
        ui.count(evaluated),
        ui.count(unexpected),
        ui.count(result["batches"]),
        ui.count(failed),
        escape(ui.ago(result["last_failed_at"])),
    ]
