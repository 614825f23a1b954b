"""API keys: list, make (the text is shown once), revoke."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import Problem, client

SCOPES = {"ingest": "send events", "read": "read data", "manage": "change things"}
_TONES = {"active": "good", "expired": "warning", "revoked": "neutral"}


def show() -> None:
    """Every key without its secret, and the ways to make and revoke one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading("API keys", "For programs that send events or read data.")
        if st.button("New key", icon=":material/add:", type="primary"):
            st.session_state.pop("new-key", None)
            _make()
    found = client().items("/v1/keys", limit=200)
    if not found:
        ui.nothing("No keys yet", "Make one for each program, so that each can be revoked by itself.")
    for key in found:
        _row(key)


def _row(key: dict[str, Any]) -> None:
    where = ", ".join(key["pipelines"]) if key["pipelines"] else "every pipeline"
    used = f"used {ui.ago(key['last_used_at'])}" if key["last_used_at"] else "never used"
    with st.container(key=f"key-{key['id']}", border=True, horizontal=True, vertical_alignment="center"):
        state = ui.badge(key["state"], _TONES[key["state"]])
        rate = [f"{key['rate']:,g} events/s, burst {ui.count(key['burst'])}"] if key["rate"] else []
        about = escape(" · ".join([", ".join(key["scopes"]), where, *rate, used]))
        st.html(
            f"<div class='sw-key'><strong>{escape(key['name'])}</strong> {state}"
            f"<span><code>slw_{escape(key['id'])}_…</code> {about}</span></div>"
        )
        if key["state"] == "active" and st.button("Revoke", key=f"revoke-{key['id']}", type="tertiary"):
            _revoke(key)


@st.dialog("Revoke key")
def _revoke(key: dict[str, Any]) -> None:
    st.write(
        f"Programs that use **{ui.plain(key['name'])}** are refused within seconds. This cannot be undone."
    )
    if st.button("Revoke", type="primary"):
        try:
            client().delete(f"/v1/keys/{key['id']}")
        except Problem as found:
            ui.problem(found)
        else:
            st.rerun()


@st.dialog("New API key")
def _make() -> None:
    if text := st.session_state.get("new-key"):
        st.write("Copy it now: it is not kept and cannot be shown again.")
        st.code(text, language=None, wrap_lines=True)
        if st.button("Done", type="primary"):
            st.session_state.pop("new-key", None)
            st.rerun()
        return
    slugs = [p["slug"] for p in client().items("/v1/pipelines", limit=200)]
    with st.form("key", border=False):
        name = st.text_input("Name", placeholder="What uses it", max_chars=100)
        scopes = st.multiselect("It may", list(SCOPES), default=["ingest"], format_func=SCOPES.__getitem__)
        only = st.multiselect("Pipelines it may send to", slugs, placeholder="Every pipeline")
        left, right = st.columns(2)
        rate = left.number_input("Events a second", min_value=0.001, value=None, placeholder="No limit")
        burst = right.number_input("At once", min_value=1, value=None, placeholder="2 seconds' worth")
        sent = st.form_submit_button("Make key", type="primary")
    if sent:
        try:
            made = client().post(
                "/v1/keys",
                {
                    "name": name.strip(),
                    "scopes": scopes,
                    "pipelines": only or None,
                    "rate": rate,
                    "burst": burst,
                },
            )
        except Problem as found:
            ui.problem(found)
        else:
            st.session_state["new-key"] = made["key"]
            st.rerun(scope="fragment")
