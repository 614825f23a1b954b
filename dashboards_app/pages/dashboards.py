"""The list of dashboards."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client


def show() -> None:
    """Every dashboard as a card that leads to it."""
    found = client().items("/v1/dashboards", limit=200)
    ui.heading("Dashboards", "What your workspace watches.")
    if not found:
        ui.nothing(
            "No dashboards yet", "Apply one: sluiceway apply examples/dashboards/flights-operations.yml"
        )
        return
    columns = st.columns(3, gap="small")
    for index, item in enumerate(found):
        with columns[index % 3]:
            _card(item)


def _card(item: dict[str, Any]) -> None:
    slug = item["slug"]
    with st.container(key=f"card-{slug}", border=True):
        widgets = item.get("widgets")
        amount = len(widgets) if isinstance(widgets, list) else widgets
        changed = f"changed {ui.ago(item.get('updated_at'))}" if item.get("updated_at") else ""
        about = " · ".join(part for part in (f"{amount} widgets" if amount else "", changed) if part)
        st.html(
            f"<div class='sw-card'><h2>{escape(item.get('title') or slug)}</h2>"
            f"<p>{escape(item.get('description') or '')}</p><small>{escape(about)}</small></div>"
        )
        st.page_link(
            st.session_state["pages"]["dashboard"],
            label=ui.plain(item.get("title") or slug),
            query_params={"slug": slug},
        )
