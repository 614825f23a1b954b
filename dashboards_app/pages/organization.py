"""The organization: its name, its workspaces, who owns it. A part of the page Settings."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import client, visitor

ADDRESS = "/v1/organization"


def show(manages: bool) -> None:
    """Whoever does not own it sees its name."""
    found = client().get(ADDRESS)
    rooms, owners = found["workspaces"], found["owners"]
    if rooms is None or owners is None:
        ui.nothing(found["name"], "Its owners see all of its workspaces here.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html(f"<h2 class='sw-part'>{escape(found['name'])}</h2>")
        if manages and st.button("Rename", icon=":material/edit:"):
            _rename(found)
        if manages and st.button("New workspace", icon=":material/add:"):
            editing.edit("workspace", "/v1/workspaces", _workspace)
    ui.table(
        [("Workspace", "text"), ("Address", "text"), ("Members", "number"), ("Since", "text")],
        [
            [
                escape(room["name"]), f"<code>{escape(room['slug'])}</code>",
                f"{room['members']:,}", ui.day(room["created_at"]),
            ]
            for room in rooms
        ],
        "No workspaces",
    )  # fmt: skip
    st.html("<p class='sw-lead'>Go to another of yours in <a href='/account/preferences' target='_self'>"
            "your preferences</a>.</p>")  # fmt: skip
    _owners(owners, manages)


def _owners(owners: list[dict[str, Any]], manages: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html("<h2 class='sw-part'>Owners of the organization</h2>")
        if manages and st.button("Add an owner", icon=":material/person_add:"):
            _add_owner({owner["user_id"] for owner in owners})
    for owner in owners:
        own = owner["user_id"] == visitor().get("id")
        badge = ui.tag("you") if own else ""
        about = [owner["email"], f"since {ui.day(owner['since'])}"]
        row = parts.entry(f"owner-{owner['user_id']}", owner["name"], badge, about)
        if manages and len(owners) > 1 and row.button(
            "Remove", key=f"remove-{owner['user_id']}", type="tertiary"
        ):  # fmt: skip
            _remove_owner(owner)


def _remove_owner(owner: dict[str, Any]) -> None:
    parts.ask(
        "Remove an owner",
        f"**{ui.plain(owner['name'])}** names and makes workspaces no more, and stays a member where they are"
        " one.",
        "Remove",
        lambda: client().delete(f"{ADDRESS}/owners/{owner['user_id']}"),
        "They own the organization no more.",
    )


@st.dialog("Add an owner")
def _add_owner(owners: set[str]) -> None:
    people = {
        member["id"]: f"{member['name']} · {member['email']}"
        for member in client().items("/v1/members", limit=200)
        if member["state"] == "active" and member["id"] not in owners
    }
    if not people:
        ui.nothing("Nobody else is here", "Invite them into this workspace first.")
        return
    st.write("They name the organization, make workspaces, and set up single sign-on for all of them.")
    with st.form("owner", border=False):
        chosen = st.selectbox("Member of this workspace", list(people), format_func=people.__getitem__)
        sent = st.form_submit_button("Add", type="primary")
    if sent and parts.done(lambda: client().put(f"{ADDRESS}/owners/{chosen}", {}), "They are an owner now."):
        st.rerun()


@st.dialog("Rename the organization")
def _rename(found: dict[str, Any]) -> None:
    with st.form("organization", border=False):
        name = st.text_input("Name", found["name"], max_chars=100)
        slug = st.text_input("Address", found["slug"])
        sent = st.form_submit_button("Save", type="primary")
    body = {"name": name.strip(), "slug": slug.strip()}
    if sent and parts.done(lambda: client().patch(ADDRESS, body), "Saved."):
        st.rerun()


def _workspace(found: editing.Found) -> dict[str, Any]:
    name = st.text_input("Name", found.get("name", ""), max_chars=100)
    slug = st.text_input("Address", found.get("slug", ""), placeholder="Made from the name")
    return {"name": name.strip(), "slug": slug.strip() or None}
