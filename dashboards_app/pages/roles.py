"""Roles: the five that every workspace has, and its own. A part of the page Members."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client


def show(manages: bool) -> None:
    """What each role allows; making, changing and removing the workspace's own for whoever may."""
    found = client().items("/v1/roles")
    if manages and st.button("New role", icon=":material/add:"):
        _edit(None)
    own = [role for role in found if not role["builtin"]]
    for role in own:
        _row(role, manages)
    if not own:
        ui.nothing(
            "No roles of your own yet", "Five roles are built in. Make one where none of them fits a job."
        )
    _matrix(found)


def _row(role: dict[str, Any], manages: bool) -> None:
    held = f"{role['members']} members, {role['teams']} teams"
    allowed = f"{len(role['permissions'])} permissions"
    about = " · ".join(filter(None, [role["description"], allowed, held]))
    row = parts.entry(f"role-{role['slug']}", role["name"], ui.badge(role["slug"], "neutral"), about)
    if not manages:
        return
    if row.button("Change", key=f"change-{role['slug']}", type="tertiary"):
        _edit(role)
    if row.button("Remove", key=f"remove-{role['slug']}", type="tertiary"):
        parts.ask(
            "Remove role",
            f"**{ui.plain(role['name'])}** can be removed once nobody has it.",
            "Remove",
            lambda: client().delete(f"/v1/roles/{role['slug']}"),
            "The role is gone.",
        )


def _matrix(found: list[dict[str, Any]]) -> None:
    """Which role allows what, at a glance."""
    every = sorted({permission for role in found for permission in role["permissions"]})
    columns = [("Permission", "text"), *((role["name"], "text") for role in found)]
    rows = [
        [
            f"<code>{permission}</code>",
            *("✓" if permission in role["permissions"] else "" for role in found),
        ]
        for permission in every
    ]
    ui.table(columns, rows, "No permissions")


@st.dialog("Role", width="large")
def _edit(role: dict[str, Any] | None) -> None:
    mine = sorted(parts.permissions())
    held = role["permissions"] if role else []
    with st.form("role", border=False):
        name = st.text_input("Name", role["name"] if role else "", max_chars=100)
        description = st.text_input("What it is for", role["description"] if role else "")
        chosen = st.multiselect(
            "It allows", sorted({*mine, *held}), default=held, placeholder="Choose permissions",
            help="Only what you may do yourself can be given.",
        )  # fmt: skip
        sent = st.form_submit_button("Save", type="primary")
    if not sent:
        return
    body = {"name": name.strip(), "description": description.strip(), "permissions": chosen}
    if role is None:
        saved = parts.done(lambda: client().post("/v1/roles", body), "The role is there.")
    else:
        saved = parts.done(lambda: client().patch(f"/v1/roles/{role['slug']}", body), "Saved.")
    if saved:
        st.rerun()
