"""Deleting the workspace: what goes with it is said first, and its name has to be typed. Part of Settings."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_COUNTED = {
    "pipelines": "Pipelines",
    "events": "Events",
    "dashboards": "Dashboards",
    "links": "Links",
    "members": "Members",
    "keys": "Keys",
    "rules": "Access rules",
    "dead_letters": "Dead letters",
}


def show(here: dict[str, Any]) -> None:
    """The way there, apart from everything else."""
    with st.container(key="danger", border=True, horizontal=True, vertical_alignment="center"):
        st.html(
            "<div class='sw-key'><strong>Delete this workspace</strong><p>With all its data, for good. Only"
            " the audit log stays.</p></div>"
        )
        if st.button("Delete…", type="tertiary"):
            _delete(here)


@st.dialog("Delete this workspace")
def _delete(here: dict[str, Any]) -> None:
    address = f"/v1/workspaces/{here['id']}/deletion"
    with ui.guarded():
        found = client().get(address)
        st.html(ui.facts([(title, ui.count(found[name])) for name, title in _COUNTED.items()]))
        st.write(
            f"All of it goes, and {ui.size(found['stored_bytes'])} in the lake and the database. Members keep"
            " their accounts and lose this workspace. Nobody can bring it back."
        )
        with st.form("delete-workspace", border=False):
            typed = st.text_input(f"Type its name, {ui.plain(found['name'])}, if you mean it")
            sent = st.form_submit_button("Delete for good", type="primary")
        if sent and parts.done(lambda: client().post(address, {"name": typed.strip()}), "It is deleted."):
            st.session_state.clear()
            st.rerun()
