"""Service accounts: members that are programs, and their keys. A part of the page API keys."""

from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import client

ADDRESS = "/v1/service-accounts"


def show() -> None:
    """Every account; making, changing, locking out and removing them, and making keys for them."""
    if st.button("New service account", icon=":material/add:"):
        editing.edit("service account", ADDRESS, _fields)
    found = client().items(ADDRESS)
    if not found:
        ui.nothing(
            "No service accounts yet",
            "A program that acts by itself gets roles of its own here, which stay when people leave.",
        )
    for account in found:
        _row(account)


def _row(account: dict[str, Any]) -> None:
    off = account["state"] == "disabled"
    badges = ui.badge("locked out", "critical") if off else ui.badge("active", "good")
    told = editing.attributes_told(account["attributes"])
    about = [", ".join(account["roles"]), *told, account["description"]]
    row = parts.entry(f"account-{account['id']}", account["name"], badges, about)
    if not off and row.button("New key", key=f"new-{account['id']}", type="tertiary"):
        st.session_state.pop("account-key", None)
        _key(account)
    if row.button("Change", key=f"change-{account['id']}", type="tertiary"):
        editing.edit("service account", ADDRESS, _fields, account, name="id")
    if row.button("Delete", key=f"delete-{account['id']}", type="tertiary"):
        parts.ask(
            "Delete service account",
            f"The keys of **{ui.plain(account['name'])}** are refused at once. This cannot be undone.",
            "Delete",
            lambda: client().delete(f"{ADDRESS}/{account['id']}"),
            "The account and its keys are gone.",
        )


@st.dialog("Key of a service account")
def _key(account: dict[str, Any]) -> None:
    if parts.secret_waits("account-key"):
        return
    with st.form("account-key-form", border=False):
        name = st.text_input("Name", placeholder="What uses it", max_chars=100)
        sent = st.form_submit_button("Make key", type="primary")
    if sent:
        body = {"name": name.strip()}
        parts.keep_secret("account-key", lambda: client().post(f"{ADDRESS}/{account['id']}/keys", body))


def _fields(account: editing.Found) -> dict[str, Any]:
    body = {
        **editing.named(account, "What it does", 100),
        "roles": editing.roles("Roles", account.get("roles", ["viewer"])),
        "attributes": editing.attributes("Attributes", account.get("attributes", {})),
    }
    if account:
        body["disabled"] = st.toggle("Locked out", account["state"] == "disabled")
    return body
