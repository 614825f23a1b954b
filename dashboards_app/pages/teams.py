"""Teams: members under one name, who get its roles and attributes. A part of the page Members."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client


def show(manages: bool) -> None:
    """Every team; making, changing and removing them for whoever may."""
    if manages and st.button("New team", icon=":material/group_add:"):
        _edit(None)
    found = client().items("/v1/teams")
    if not found:
        ui.nothing(
            "No teams yet", "A team gives its members roles and attributes besides their own, all at once."
        )
    for team in found:
        _row(team, manages)


def _row(team: dict[str, Any], manages: bool) -> None:
    badges = " ".join(ui.badge(role, "neutral") for role in team["roles"])
    given = [f"{name} = {', '.join(values)}" for name, values in team["attributes"].items()]
    count = "1 member" if team["members"] == 1 else f"{team['members']} members"
    about = " · ".join(filter(None, [count, *given, team["description"]]))
    row = parts.entry(f"team-{team['slug']}", team["name"], badges, about)
    if not manages:
        return
    if row.button("Change", key=f"change-{team['slug']}", type="tertiary"):
        _edit(team)
    if row.button("Remove", key=f"remove-{team['slug']}", type="tertiary"):
        parts.ask(
            "Remove team",
            f"Who is in **{ui.plain(team['name'])}** loses what it gave them at once.",
            "Remove",
            lambda: client().delete(f"/v1/teams/{team['slug']}"),
            "The team is gone.",
        )


@st.dialog("Team")
def _edit(team: dict[str, Any] | None) -> None:
    known = [role["slug"] for role in client().items("/v1/roles")]
    with st.form("team", border=False):
        name = st.text_input("Name", team["name"] if team else "", max_chars=100)
        description = st.text_input("What it is for", team["description"] if team else "")
        roles = st.multiselect(
            "Roles it gives", known, default=team["roles"] if team else [], placeholder="None"
        )
        attributes = st.text_area(
            "Attributes it gives", parts.attributes_text(team["attributes"] if team else {}),
            placeholder="region: emea", help="For row rules: a name a line, values with commas.",
        )  # fmt: skip
        sent = st.form_submit_button("Save", type="primary")
    if not sent:
        return
    body = {
        "name": name.strip(),
        "description": description.strip(),
        "roles": roles,
        "attributes": parts.attributes_of(attributes),
    }
    if team is None:
        saved = parts.done(lambda: client().post("/v1/teams", body), "The team is there.")
    else:
        saved = parts.done(lambda: client().patch(f"/v1/teams/{team['slug']}", body), "Saved.")
    if saved:
        st.rerun()
