"""One dashboard: the canvas, and its YAML. The slug is in the page's address."""

import streamlit as st

from dashboards_app import ui
from dashboards_app.canvas.component import canvas
from dashboards_app.client import client


def show() -> None:
    """Mount the canvas for `?slug=`. It fetches, listens and saves by itself: nothing reruns for data."""
    slug = ui.chosen()
    if not slug:
        ui.nothing("No dashboard chosen", "Choose one from the list.")
        st.page_link(
            st.session_state["pages"]["dashboards"], label="All dashboards", icon=":material/arrow_back:"
        )
        return
    canvas(slug)
    with st.container(key="dashboard-tools", horizontal=True, vertical_alignment="center"):
        st.page_link(
            st.session_state["pages"]["dashboards"], label="All dashboards", icon=":material/arrow_back:"
        )
        if st.button("YAML", icon=":material/code:", type="tertiary", help="The dashboard as code"):
            _yaml(slug)


@st.dialog("Dashboard as code", width="large")
def _yaml(slug: str) -> None:
    with ui.guarded():
        source = client().text(f"/v1/dashboards/{slug}/export")
        st.code(source, language="yaml", height=480)
        st.download_button(
            "Download", source, file_name=f"{slug}.yml", mime="text/yaml", icon=":material/download:"
        )
