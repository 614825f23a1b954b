"""Service accounts: members that are programs, and their keys. A part of the page API keys."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client


def show() -> None:
    """Every account; making, changing, locking out and removing them, and making keys for them."""
    if st.button("New service account", icon=":material/add:"):
        _edit(None)
    found = client().items("/v1/service-accounts")
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
    given = [f"{name} = {', '.join(values)}" for name, values in account["attributes"].items()]
    about = " · ".join(filter(None, [", ".join(account["roles"]), *given, account["description"]]))
    row = parts.entry(f"account-{account['id']}", account["name"], badges, about)
    address = f"/v1/service-accounts/{account['id']}"
    if not off and row.button("New key", key=f"new-{account['id']}", type="tertiary"):
        st.session_state.pop("account-key", None)
        _key(account)
    if row.button("Change", key=f"change-{account['id']}", type="tertiary"):
        _edit(account)
    if row.button("Delete", key=f"delete-{account['id']}", type="tertiary"):
        parts.ask(
            "Delete service account",
            f"The keys of **{ui.plain(account['name'])}** are refused at once. This cannot be undone.",
            "Delete",
            lambda: client().delete(address),
            "The account and its keys are gone.",
        )


@st.dialog("Key of a service account")
def _key(account: dict[str, Any]) -> None:
    if text := st.session_state.get("account-key"):
        parts.shown_once(text, "account-key")
        return
    with st.form("account-key-form", border=False):
        name = st.text_input("Name", placeholder="What uses it", max_chars=100)
        sent = st.form_submit_button("Make key", type="primary")
    if sent:
        try:
            made = client().post(f"/v1/service-accounts/{account['id']}/keys", {"name": name.strip()})
        except Problem as found:
            ui.problem(found)
        else:
            st.session_state["account-key"] = made["key"]
            st.rerun(scope="fragment")


@st.dialog("Service account")
def _edit(account: dict[str, Any] | None) -> None:
    known = [role["slug"] for role in client().items("/v1/roles")]
    with st.form("account", border=False):
        name = st.text_input("Name", account["name"] if account else "", max_chars=100)
        description = st.text_input("What it does", account["description"] if account else "")
        roles = st.multiselect("Roles", known, default=account["roles"] if account else ["viewer"])
        attributes = st.text_area(
            "Attributes", parts.attributes_text(account["attributes"] if account else {}),
            placeholder="region: emea", help="For row rules: a name a line, values with commas.",
        )  # fmt: skip
        disabled = st.toggle("Locked out", account["state"] == "disabled") if account else None
        sent = st.form_submit_button("Save", type="primary")
    if not sent:
        return
    body: dict[str, Any] = {
        "name": name.strip(),
        "description": description.strip(),
        "roles": roles,
        "attributes": parts.attributes_of(attributes),
    }
    if account is None:
        saved = parts.done(lambda: client().post("/v1/service-accounts", body), "The account is there.")
    else:
        change = {**body, "disabled": disabled}
        saved = parts.done(lambda: client().patch(f"/v1/service-accounts/{account['id']}", change), "Saved.")
    if saved:
        st.rerun()
