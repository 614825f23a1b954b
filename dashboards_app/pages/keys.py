"""API keys: list, make (the text is shown once), rotate, revoke; service accounts beside them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client
from dashboards_app.pages import service_accounts

SCOPES = {
    "ingest": "send events",
    "read": "read data",
    "manage": "change things",
    "provision": "provision people (SCIM)",
}
VIEWS = {"keys": "Keys", "accounts": "Service accounts"}
OVERLAPS = {0: "at once", 3600: "an hour", 86400: "a day", 604800: "a week"}
_DAYS = {0: "until revoked", 30: "for 30 days", 90: "for 90 days", 365: "for a year"}
_TONES = {"active": "good", "expired": "warning", "revoked": "neutral"}


def show() -> None:
    """Every key without its secret, and the ways to make and revoke one."""
    may = parts.permissions()
    manages = "key:manage" in may
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading("API keys", "For programs that send events or read data.", narrow=True)
        if manages and st.button("New key", icon=":material/add:", type="primary"):
            st.session_state.pop("new-key", None)
            _make()
    if "service_account:manage" in may and parts.views(VIEWS) == "accounts":
        service_accounts.show()
        return
    if not parts.each("/v1/keys", lambda key: _row(key, manages)):
        ui.nothing("No keys yet", "Make one for each program, so that each can be revoked by itself.")


def _row(key: dict[str, Any], manages: bool) -> None:
    about = [f"slw_{key['id']}_…", ", ".join(key["scopes"])]
    if "ingest" in key["scopes"]:
        about.append(", ".join(key["pipelines"]) if key["pipelines"] else "every pipeline")
    if key["rate"]:
        about.append(f"{key['rate']:,g} events/s, burst {ui.count(key['burst'])}")
    where = f" from {key['last_used_address']}" if key["last_used_address"] else ""
    about.append(f"used {ui.ago(key['last_used_at'])}{where}" if key["last_used_at"] else "never used")
    if key["expires_at"]:
        about.append(f"until {ui.clock(key['expires_at'])}")
    if key["previous_until"]:
        used = f"used {ui.ago(key['previous_used_at'])}" if key["previous_used_at"] else "not used since"
        about.append(f"the secret before works until {ui.clock(key['previous_until'])}, {used}")
    badges = [ui.badge(key["state"], _TONES[key["state"]])]
    if key["service_account"]:
        badges.append(ui.tag("service account"))
    row = parts.entry(key["id"], key["name"], " ".join(badges), about)
    if key["state"] != "active" or not manages:
        return
    if key["previous_until"]:
        acts: dict[str, Callable[[dict[str, Any]], None]] = {
            "End the old secret": _end_overlap,
            "Replace a lost new one": partial(_rotate, lost=True),
        }
        act = row.menu_button("Rotation", list(acts), key=f"rotation-{key['id']}", type="tertiary")
        if act:
            st.session_state.pop("rotated-key", None)
            acts[act](key)
    elif row.button("Rotate", key=f"rotate-{key['id']}", type="tertiary"):
        st.session_state.pop("rotated-key", None)
        _rotate(key)
    if row.button("Revoke", key=f"revoke-{key['id']}", type="tertiary"):
        parts.ask(
            "Revoke key",
            f"Programs that use **{ui.plain(key['name'])}** are refused within seconds. This cannot be"
            " undone.",
            "Revoke",
            lambda: client().delete(f"/v1/keys/{key['id']}"),
            "The key is revoked.",
        )


def _end_overlap(key: dict[str, Any]) -> None:
    parts.ask(
        "End the old secret",
        f"Programs that still use the secret that **{ui.plain(key['name'])}** had before are refused within"
        " seconds. The new one goes on.",
        "End it",
        lambda: client().delete(f"/v1/keys/{key['id']}/rotation"),
        "Only the new secret works.",
    )


@st.dialog("Rotate key")
def _rotate(key: dict[str, Any], lost: bool = False) -> None:
    if parts.secret_waits("rotated-key"):
        return
    body: dict[str, Any] = {"lost": True}
    if lost:
        st.write(
            f"**{ui.plain(key['name'])}** gets another new secret instead of the one that was lost before"
            f" anybody used it. The old one works until {ui.clock(key['previous_until'])}, as was said."
        )
    else:
        st.write(f"**{ui.plain(key['name'])}** gets a new secret. The one until now goes on for:")
        overlap = st.segmented_control(
            "Overlap", list(OVERLAPS), format_func=OVERLAPS.__getitem__, default=86400,
            label_visibility="collapsed",
        )  # fmt: skip
        body = {"overlap_s": overlap or 0}
    if parts.buttons("Rotate"):
        parts.keep_secret("rotated-key", lambda: client().post(f"/v1/keys/{key['id']}/rotation", body))


@st.dialog("New API key")
def _make() -> None:
    if parts.secret_waits("new-key"):
        return
    slugs = [p["slug"] for p in client().items("/v1/pipelines", limit=200)]
    with st.form("key", border=False):
        name = st.text_input("Name", placeholder="What uses it", max_chars=100)
        scopes = st.multiselect("It may", list(SCOPES), default=["ingest"], format_func=SCOPES.__getitem__)
        only = st.multiselect("Pipelines it may send to", slugs, placeholder="Every pipeline")
        left, right = st.columns(2)
        rate = left.number_input("Events a second", min_value=0.001, value=None, placeholder="No limit")
        burst = right.number_input("At once", min_value=1, value=None, placeholder="2 seconds' worth")
        days = st.selectbox("It works", list(_DAYS), format_func=_DAYS.__getitem__)
        sent = st.form_submit_button("Make key", type="primary")
    if not sent:
        return
    ends = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    body = {
        "name": name.strip(), "scopes": scopes, "pipelines": only or None, "rate": rate, "burst": burst,
        "expires_at": ends,
    }  # fmt: skip
    parts.keep_secret("new-key", lambda: client().post("/v1/keys", body))
