"""Teams: members under one name, who get its roles and attributes. A part of the page Members."""

from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import client

ADDRESS = "/v1/teams"


def show(manages: bool) -> None:
    """Every team; making, changing and removing them for whoever may."""
    if manages and st.button("New team", icon=":material/group_add:"):
        editing.edit("team", ADDRESS, _fields)
    found = client().items(ADDRESS)
    if not found:
        ui.nothing(
            "No teams yet", "A team gives its members roles and attributes besides their own, all at once."
        )
    for team in found:
        _row(team, manages)


def _row(team: dict[str, Any], manages: bool) -> None:
    badges = " ".join(ui.tag(role) for role in team["roles"])
    held = ui.some(team["members"], "member")
    about = [held, *editing.attributes_told(team["attributes"]), team["description"]]
    row = parts.entry(f"team-{team['slug']}", team["name"], badges, about)
    if not manages:
        return
    if row.button("Change", key=f"change-{team['slug']}", type="tertiary"):
        editing.edit("team", ADDRESS, _fields, team)
    if row.button("Remove", key=f"remove-{team['slug']}", type="tertiary"):
        parts.ask(
            "Remove team",
            f"What **{ui.plain(team['name'])}** gives is lost at once by {held}. They stay in the workspace.",
            "Remove",
            lambda: client().delete(f"{ADDRESS}/{team['slug']}"),
            "The team is gone.",
        )


def _fields(team: editing.Found) -> dict[str, Any]:
    return {
        **editing.named(team, "What it is for", 80),
        "roles": editing.roles("Roles it gives", team.get("roles", [])),
        "attributes": editing.attributes("Attributes it gives", team.get("attributes", {})),
    }
