"""Roles: the five that every workspace has, and its own. A part of the page Members."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import client

ADDRESS = "/v1/roles"


def show(manages: bool) -> None:
    """What each role allows; making, changing and removing the workspace's own for whoever may."""
    found = client().items(ADDRESS)
    if manages and st.button("New role", icon=":material/add:"):
        editing.edit("role", ADDRESS, _fields, width="large")
    own = [role for role in found if not role["builtin"]]
    for role in own:
        _row(role, manages)
    if not own:
        ui.nothing(
            "No roles of your own yet", "Five roles are built in. Make one where none of them fits a job."
        )
    st.html("<h2 class='sw-part'>What each role allows</h2>")
    st.html(_matrix(found))


def _row(role: dict[str, Any], manages: bool) -> None:
    held = f"{ui.some(role['members'], 'member')}, {ui.some(role['teams'], 'team')}"
    allowed = ui.some(len(role["permissions"]), "permission")
    about = [role["description"], allowed, held]
    row = parts.entry(f"role-{role['slug']}", role["name"], ui.tag(role["slug"]), about)
    if not manages:
        return
    if row.button("Change", key=f"change-{role['slug']}", type="tertiary"):
        editing.edit("role", ADDRESS, _fields, role, width="large")
    if row.button("Remove", key=f"remove-{role['slug']}", type="tertiary"):
        parts.ask(
            "Remove role",
            f"**{ui.plain(role['name'])}** is held by {held}. It can be removed once nobody has it.",
            "Remove",
            lambda: client().delete(f"{ADDRESS}/{role['slug']}"),
            "The role is gone.",
        )


def _matrix(found: Sequence[dict[str, Any]]) -> str:
    """Which role allows what, at a glance: permissions by what they are about, the roles beside."""
    every = sorted({permission for role in found for permission in role["permissions"]})
    columns: list[tuple[str, ui.Align]] = [
        ("Permission", "text"),
        *((role["name"], "middle") for role in found),
    ]
    rows = [
        [f"<code>{permission}</code>", *(ui.tick(permission in role["permissions"]) for role in found)]
        for permission in every
    ]
    return ui.table_html(columns, rows, pinned=True)


def _fields(role: editing.Found) -> dict[str, Any]:
    held = role.get("permissions", [])
    named = editing.named(role, "What it is for", 60)
    chosen = st.multiselect(
        "It allows", sorted({*parts.permissions(), *held}), default=held, placeholder="Choose permissions",
        help="Only what you may do yourself can be given.",
    )  # fmt: skip
    return {**named, "permissions": chosen}
