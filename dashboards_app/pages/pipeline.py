"""One pipeline: how it is doing, its batches, what its gate found, its fields, its YAML."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client
from dashboards_app.pages.intake import intake_badge, limits
from dashboards_app.pages.quality import expectations


def show() -> None:
    """The pipeline named in `?slug=`."""
    slug = ui.chosen()
    with st.container(key="back"):
        st.page_link(
            st.session_state["pages"]["pipelines"], label="All pipelines", icon=":material/arrow_back:"
        )
    if not slug:
        ui.nothing("No pipeline chosen", "Choose one from the list.")
        return
    item = client().get(f"/v1/pipelines/{slug}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading(item["title"], item["description"])
        if "pipeline:write" in parts.permissions():
            _actions(item)
    _now(slug)
    # Only what is looked at is asked for: taking the YAML out is an export, and told to the audit log.
    batches, gate, fields, intake, source = st.tabs(
        ["Batches", "Quality", "Fields", "Limits", "YAML"], key="pipeline-parts", on_change="rerun"
    )
    with batches:
        if batches.open:
            _batches(slug)
    with gate, ui.guarded():
        if gate.open:
            expectations(slug)
    with fields:
        if fields.open:
            _fields(item)
    with intake:
        if intake.open:
            limits(slug)
    with source, ui.guarded():
        if source.open:
            _source(slug)


def _source(slug: str) -> None:
    text = client().text(f"/v1/pipelines/{slug}/export")
    st.code(text, language="yaml", height=520)
    st.download_button(
        "Download", text, file_name=f"{slug}.yml", mime="text/yaml", icon=":material/download:"
    )


def _actions(item: dict[str, Any]) -> None:
    slug = item["slug"]
    paused = item["state"] == "paused"
    label, icon, action = ("Resume", "play_arrow", "resume") if paused else ("Pause", "pause", "pause")
    if st.button(label, icon=f":material/{icon}:", help="Whether its event route takes new events"):
        try:
            client().post(f"/v1/pipelines/{slug}/{action}")
        except Problem as found:
            st.toast(ui.plain(str(found)), icon=":material/error:")
        else:
            st.rerun()


@st.fragment(run_every="2s")
def _now(slug: str) -> None:
    with ui.guarded():
        item = client().get(f"/v1/pipelines/{slug}")
        status = item["status"]
        state = ui.STATES[item["state"]] if item["state"] != "active" else ui.FRESHNESS[status["freshness"]]
        letters = status["open_dead_letters"] + status["held_dead_letters"]
        st.html(
            ui.facts(
                [
                    ("State", ui.dot(*state)),
                    ("Intake", intake_badge(status)),
                    ("Rate", ui.rate(status["rate"])),
                    ("Lag", ui.seconds(status["lag_s"])),
                    ("Last event", escape(ui.ago(status["last_received_at"]))),
                    ("Events", ui.count(status["events"])),
                    ("Duplicates", ui.count(status["duplicates"])),
                    ("Dead letters", ui.count(letters)),
                    ("Gate", ui.badge(*ui.VERDICTS[status["verdict"] if item.get("suite") else None])),
                ]
            )
        )


@st.fragment(run_every="3s")
def _batches(slug: str) -> None:
    with ui.guarded():
        found = client().items("/v1/batches", pipeline=slug, limit=25)
        ui.table(
            [
                ("Loaded", "text"), ("Verdict", "text"), ("Events", "number"), ("Rows", "number"),
                ("Duplicates", "number"), ("Dead letters", "number"), ("Size", "number"),
                ("Waited", "number"), ("Origin", "text"), ("Name", "text"),
            ],
            [_batch(b) for b in found],
            "No batches yet",
        )  # fmt: skip


def _batch(batch: dict[str, Any]) -> list[str]:
    loaded, received = ui.moment(batch["loaded_at"]), ui.moment(batch["min_received_at"])
    waited = (loaded - received).total_seconds() if loaded and received else None
    return [
        f"<span title='{escape(batch['loaded_at'])}'>{ui.clock(batch['loaded_at'])}</span>",
        ui.badge(*ui.VERDICTS[batch["verdict"]]),
        ui.count(batch["events"]),
        ui.count(batch["rows"]),
        ui.count(batch["duplicates"]),
        ui.count(batch["dead_letters"]),
        ui.size(batch["size_bytes"]),
        ui.seconds(waited) if batch["origin"] == "live" else "–",
        escape(batch["origin"]),
        f"<code>{escape(batch['name'])}</code>",
    ]


def _fields(item: dict[str, Any]) -> None:
    st.caption(f"Silver table silver.{item['silver_table']}, version {item['version']}")
    ui.table(
        [("Field", "text"), ("Type", "text"), ("Role", "text"), ("Unit", "text"), ("Meaning", "text")],
        [
            [
                f"<code>{escape(f['name'])}</code>{' <small>required</small>' if f['required'] else ''}",
                escape(f["type"]),
                escape(f["role"]),
                escape(f["unit"] or ""),
                escape(" · ".join(part for part in (f["title"], f["description"]) if part)),
            ]
            for f in item["fields"]
        ],
        "No fields",
    )
