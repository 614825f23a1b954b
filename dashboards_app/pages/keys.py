"""API keys: list, make (the text is shown once), rotate, revoke; service accounts beside them."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client
from dashboards_app.pages import service_accounts

SCOPES = {
    "ingest": "send events",
    "read": "read data",
    "manage": "change things",
    "provision": "provision people (SCIM)",
}
VIEWS = {"keys": "Keys", "accounts": "Service accounts"}
OVERLAPS = {0: "at once", 3600: "an hour", 86400: "a day", 604800: "a week"}
_TONES = {"active": "good", "expired": "warning", "revoked": "neutral"}


def show() -> None:
    """Every key without its secret, and the ways to make and revoke one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading("API keys", "For programs that send events or read data.")
        if st.button("New key", icon=":material/add:", type="primary"):
            st.session_state.pop("new-key", None)
            _make()
    if "service_account:manage" in parts.permissions() and parts.views(VIEWS) == "accounts":
        service_accounts.show()
        return
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
        ends = [f"until {ui.clock(key['expires_at'])}"] if key["expires_at"] else []
        before = [f"the secret before works until {ui.clock(key['previous_until'])}"]
        old = before if key["previous_until"] else []
        about = escape(" · ".join([", ".join(key["scopes"]), where, *rate, used, *ends, *old]))
        st.html(
            f"<div class='sw-key'><strong>{escape(key['name'])}</strong> {state}"
            f"<span><code>slw_{escape(key['id'])}_…</code> {about}</span></div>"
        )
        if key["state"] == "active" and st.button("Rotate", key=f"rotate-{key['id']}", type="tertiary"):
            st.session_state.pop("rotated-key", None)
            _rotate(key)
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


@st.dialog("Rotate key")
def _rotate(key: dict[str, Any]) -> None:
    if text := st.session_state.get("rotated-key"):
        parts.shown_once(text, "rotated-key")
        return
    st.write(f"**{ui.plain(key['name'])}** gets a new secret. The one until now goes on for:")
    overlap = st.segmented_control("Overlap", list(OVERLAPS), format_func=OVERLAPS.__getitem__, default=86400)
    if st.button("Rotate", type="primary"):
        try:
            made = client().post(f"/v1/keys/{key['id']}/rotation", {"overlap_s": overlap or 0})
        except Problem as found:
            ui.problem(found)
        else:
            st.session_state["rotated-key"] = made["key"]
            st.rerun(scope="fragment")


@st.dialog("New API key")
def _make() -> None:
    if text := st.session_state.get("new-key"):
        parts.shown_once(text, "new-key")
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
