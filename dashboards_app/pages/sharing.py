"""Links that show one dashboard to whoever has them. A part of the page Dashboard."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_DAYS = {1: "a day", 7: "a week", 30: "a month", 0: "until revoked"}
_TONES = {"active": "good", "expired": "warning", "revoked": "neutral"}


@st.dialog("Share this dashboard", width="large")
def share(slug: str) -> None:
    """Make a link (its address is shown once), and revoke those that are there."""
    if parts.secret_waits("link-url", scope="fragment"):
        return
    st.write(
        "Whoever has the link sees this dashboard, live and read-only, without signing in. Access rules for"
        " the role **link** hold, and it never shows more than you see."
    )
    with st.form("link", border=False):
        name = st.text_input("Name", placeholder="Who gets it", max_chars=100)
        left, right = st.columns(2)
        days = left.selectbox("It works", list(_DAYS), index=1, format_func=_DAYS.__getitem__)
        password = right.text_input("Password", type="password", placeholder="The link alone is enough")
        sent = st.form_submit_button("Make link", type="primary")
    if sent:
        _make(slug, name.strip(), days, password)
    _list(slug)


def _make(slug: str, name: str, days: int, password: str) -> None:
    ends = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    body = {"name": name, "expires_at": ends, "password": password or None}
    parts.keep_secret("link-url", lambda: client().post(f"/v1/dashboards/{slug}/links", body), "url")


def _list(slug: str) -> None:
    found = [
        link for link in client().items("/v1/links", dashboard=slug, limit=100) if link["state"] != "revoked"
    ]
    if not found:
        ui.nothing("No links yet")
    for link in found:
        _row(link)


def _row(link: dict[str, Any]) -> None:
    badges = ui.badge(link["state"], _TONES[link["state"]])
    if link["password"]:
        badges += " " + ui.badge("password", "good")
    ends = f"works until {ui.clock(link['expires_at'])}" if link["expires_at"] else "works until revoked"
    opened = (
        f"opened {link['uses']:,} times, last {ui.ago(link['last_used_at'])}"
        if link["uses"]
        else "never opened"
    )
    row = parts.entry(f"link-{link['id']}", link["name"], badges, [ends, opened])
    if row.button("Revoke", key=f"revoke-{link['id']}", type="tertiary") and parts.done(
        lambda: client().delete(f"/v1/links/{link['id']}"), "The link shows nothing any more."
    ):
        st.rerun(scope="fragment")
