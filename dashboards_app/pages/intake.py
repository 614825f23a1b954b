"""What a pipeline takes in: its limits, and what its senders were refused lately. Part of its page."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client

# What each refusal means for the one who looks, and what ends it.
REASONS = {
    "rate_limited": ("More came than a rate allows", "The senders come again when they were told to."),
    "pipeline_backlogged": (
        "Too much of this pipeline waits",
        "The loader catches up; other pipelines go on.",
    ),
    "spool_full": ("The spool is full", "The loader catches up; see the health page."),
    "disk_full": ("The disk is nearly full", "Free some space on the node."),
    "loader_behind": ("The loader is too far behind", "See the health page: is the loader running?"),
    "spool_write_failed": ("The disk could not be written", "See the node's log."),
    "spool_closed": ("A web process was stopping", "The senders come again."),
    "batch_exceeds_burst": ("A request was larger than the burst", "The sender has to split its batches."),
}


def intake_badge(status: dict[str, Any]) -> str:
    """Whether senders are held back just now, by a pipeline's status."""
    held_back = status["held_back"]
    if not held_back:
        return ui.badge("Open", "good")
    hint = f"{ui.count(held_back)} requests were told to come again in the last 2 minutes"
    return ui.badge("Throttled", "warning", hint)


@st.fragment(run_every="5s")
def limits(slug: str) -> None:
    """The pipeline's limits, and what was refused in the last hour."""
    with ui.guarded():
        found = client().get(f"/v1/pipelines/{slug}/intake", minutes=60)
        ui.table(
            [("Limit", "text"), ("At most", "text")], limit_rows(found["limits"]), "No limits of its own"
        )
        st.caption(
            "Written in the pipeline's YAML under `limits:`. The platform's own limits and those of keys hold"
            " besides."
        )
        ui.table(
            [
                ("Refused in the last hour", "text"),
                ("Requests", "number"),
                ("Last", "text"),
                ("What now", "text"),
            ],
            [_refused(r) for r in found["refused"]],
            "Nothing was refused in the last hour",
        )


def limit_rows(limits: dict[str, Any]) -> list[list[str]]:
    """The limits that are set, in words."""
    rows = []
    if limits["events_per_s"] is not None:
        burst = (
            f", {ui.count(limits['burst'])} at once"
            if limits["burst"] is not None
            else ", 2 s' worth at once"
        )
        rows.append(["Events", f"{ui.rate(limits['events_per_s'])}{burst}"])
    if limits["bytes_per_s"] is not None:
        rows.append(["Bytes", f"{ui.size(limits['bytes_per_s'])}/s"])
    for name, title in (("body_bytes", "One body"), ("event_bytes", "One event")):
        if limits[name] is not None:
            rows.append([title, ui.size(limits[name])])
    if limits["events_per_request"] is not None:
        rows.append(["One request", f"{ui.count(limits['events_per_request'])} events"])
    return [[escape(cell) for cell in row] for row in rows]


def _refused(item: dict[str, Any]) -> list[str]:
    reason, then = REASONS.get(item["code"], (item["code"], ""))
    return [
        f"{escape(reason)} <small><code>{escape(item['code'])}</code></small>",
        ui.count(item["requests"]),
        escape(ui.ago(item["last_minute"])),
        escape(then),
    ]
