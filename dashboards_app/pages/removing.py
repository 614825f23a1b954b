"""Removing a member: what is theirs, who has it afterwards, what becomes of their keys. A part of Members."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_KEYS = {
    "hand_over": "Go on working: programs use them",
    "revoke": "Are refused at once: they may know them by heart",
}
_COUNTED = {
    "dashboards": "Dashboards",
    "links": "Links",
    "keys": "Keys",
    "service_accounts": "Service accounts",
}


@st.dialog("Remove member")
def remove(member: dict[str, Any]) -> None:
    """Says what it means before it is done."""
    held = client().get(f"/v1/members/{member['id']}/belongings")
    st.html(ui.who(member["name"], member["email"]))
    if counted := [(title, f"{held[name]:,}") for name, title in _COUNTED.items() if held[name]]:
        st.html(ui.facts(counted))
    heirs = _heirs(member["id"])
    with st.form("remove", border=False):
        heir = None
        if heirs:
            heir = st.selectbox("What is theirs here becomes", list(heirs), format_func=heirs.__getitem__)
        keys = "hand_over"
        if held["keys"]:
            keys = st.radio("Keys that they made", list(_KEYS), format_func=_KEYS.__getitem__)
        st.caption(_said(held))
        sent = st.form_submit_button("Remove", type="primary")
    query = urlencode({"keys": keys, **({"hand_over_to": heir} if heir else {})})
    address = f"/v1/members/{member['id']}?{query}"
    if sent and parts.done(lambda: client().delete(address), f"{member['name']} has left."):
        st.rerun()


def _heirs(leaving: str) -> dict[str, str]:
    """Who can take over, by id: the owner who has been here longest first, as it is if nobody is named."""
    found = [
        member
        for member in client().items("/v1/members", limit=200)
        if member["state"] == "active" and member["id"] != leaving
    ]
    found.sort(key=lambda member: (member["role"] != "owner", datetime.fromisoformat(member["joined_at"])))
    return {m["id"]: f"{m['name']}’s · {m['email']} · {m['role']}" for m in found}


def _said(held: dict[str, int]) -> str:
    """What else happens, and what does not."""
    happens = []
    if held["sessions"]:
        ends = "ends" if held["sessions"] == 1 else "end"
        happens.append(f"{ui.some(held['sessions'], 'session')} here {ends} at once")
    if held["invitations"]:
        are = "is" if held["invitations"] == 1 else "are"
        happens.append(f"{ui.some(held['invitations'], 'invitation')} of theirs {are} taken back")
    said = f"{'; '.join(happens)}. " if happens else ""
    return f"{said}Their account stays, and so do their other workspaces."
