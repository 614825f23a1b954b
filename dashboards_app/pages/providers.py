"""Identity providers (OpenID Connect): seen, added, changed, tried, removed. A part of the page Settings."""

from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import Problem, client

ADDRESS = "/v1/sign-in/providers"
_GROUPS = "A line each: group: workspace/role. The workspace by its address, the role by its slug."


def show() -> None:
    """Those of the organization, with what a person at the provider has to be told."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html("<h2 class='sw-part'>Single sign-on</h2>")
        if st.button("Add a provider", icon=":material/add:"):
            _edit(None)
    found = client().items(ADDRESS)
    if not found:
        ui.nothing("No identity providers yet", "With OpenID Connect people sign in as they do elsewhere.")
    for provider in found:
        _row(provider)


def _row(provider: dict[str, Any]) -> None:
    badges = [ui.badge("on", "good") if provider["enabled"] else ui.badge("off", "neutral")]
    settled = provider["managed_by"] != "api"
    if settled:
        badges.append(ui.tag("from settings", "Changed where the platform is started"))
    about = [
        provider["issuer"], f"client {provider['client_id']}", f"returns to {provider['redirect_uri']}",
        ui.some(len(provider["group_roles"]), "group") if provider["group_roles"] else "",
    ]  # fmt: skip
    row = parts.entry(f"provider-{provider['id']}", provider["name"], " ".join(badges), about)
    address = f"{ADDRESS}/{provider['id']}"
    if row.button("Test", key=f"test-{provider['id']}", type="tertiary"):
        parts.done(lambda: client().post(f"{address}/check"), "It answers as it should.")
    if settled:
        return
    if row.button("Change", key=f"change-{provider['id']}", type="tertiary"):
        _edit(provider)
    if row.button("Remove", key=f"remove-{provider['id']}", type="tertiary"):
        parts.ask(
            "Remove provider",
            f"Nobody signs in by **{ui.plain(provider['name'])}** any more, and sessions that came through it"
            " end. Accounts stay: who has no password asks for a link by *Forgot it?*.",
            "Remove",
            lambda: client().delete(address),
            "The provider is gone.",
        )


def _edit(provider: dict[str, Any] | None) -> None:
    rooms = {room["id"]: room["slug"] for room in client().get("/v1/organization")["workspaces"] or []}

    def fields(found: editing.Found) -> dict[str, Any]:
        return {**_place(found), **_people(found, rooms)}

    editing.edit("provider", ADDRESS, fields, provider, name="id", change="put", width="large")


def _place(found: editing.Found) -> dict[str, Any]:
    """Where the provider is, and as whom this platform asks there."""
    left, right = st.columns(2)
    name = left.text_input("Name", found.get("name", ""), max_chars=60, placeholder="Stands on the button")
    issuer = right.text_input("Issuer", found.get("issuer", ""), placeholder="https://login.example.com")
    client_id = left.text_input("Client id", found.get("client_id", ""))
    kept = "As it is" if found.get("has_secret") else "None: PKCE alone"
    secret = right.text_input("Client secret", type="password", placeholder=kept)
    domains = left.text_input(
        "Domains it speaks for", ", ".join(found.get("domains", [])), placeholder="Any that it has verified"
    )
    scopes = right.text_input("Scopes", " ".join(found.get("scopes", ["openid", "email", "profile"])))
    if found:
        st.caption(
            "With another issuer, whoever came through the one before is linked anew, and their sessions end."
        )
    return {
        "name": name.strip(),
        "issuer": issuer.strip(),
        "client_id": client_id.strip(),
        "client_secret": secret or None,
        "domains": editing.listed(domains),
        "scopes": scopes.split(),
    }


def _people(found: editing.Found, rooms: dict[int, str]) -> dict[str, Any]:
    """What becomes of whoever comes from there."""
    groups = st.text_area(
        "What groups become here", groups_text(found.get("group_roles", []), rooms),
        placeholder="data-team: main/editor", help=_GROUPS,
    )  # fmt: skip
    left, middle, right = st.columns(3)
    claim = left.text_input("Claim with the groups", found.get("groups_claim", "groups"))
    nowhere: list[int | None] = [None]
    choices = [*nowhere, *rooms]
    held = found.get("default_workspace_id")
    room = middle.selectbox(
        "Who is in none of them comes to", choices, index=choices.index(held) if held in choices else 0,
        format_func=lambda room: "nowhere" if room is None else rooms[room],
    )  # fmt: skip
    role = right.text_input("As role", found.get("default_role") or "", placeholder="viewer")
    covers = st.toggle("Signing in there counts as a second factor", found.get("covers_second_factor", False))
    enabled = st.toggle("On the sign-in page", found.get("enabled", True))
    return {
        "groups_claim": claim.strip(),
        "group_roles": groups_of(groups, rooms),
        "default_workspace_id": room,
        "default_role": (role.strip() or "viewer") if room is not None else None,
        "covers_second_factor": covers,
        "enabled": enabled,
    }


def groups_text(held: list[dict[str, Any]], rooms: dict[int, str]) -> str:
    """Groups and what they become, as people write them. A workspace that is not there is named by its id."""
    return "\n".join(
        f"{one['group']}: {rooms.get(one['workspace_id'], one['workspace_id'])}/{one['role']}" for one in held
    )


def groups_of(text: str, rooms: dict[int, str]) -> list[dict[str, Any]]:
    """What `groups_text` made. A group may have colons in its name: the last one ends it.

    Raises `Problem` for a line that is none, or names no workspace.
    """
    ids = {slug: room for room, slug in rooms.items()}
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        group, _, place = line.rpartition(":")
        slug, _, role = place.strip().rpartition("/")
        known = ids.get(slug) or (int(slug) if slug.isdecimal() else None)
        if known is None or not group.strip():
            wanted = "should be a group, a colon, the address of a workspace, a slash, and a role."
            raise Problem(422, "A group is not placed", f"“{line}” {wanted}", method="PUT")
        found.append({"group": group.strip(), "workspace_id": known, "role": role.strip()})
    return found
