"""Settings: the workspace's name, what it asks of whoever signs in, identity providers, the organization."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

VIEWS = {"workspace": "Workspace", "sign-in": "Sign-in", "organization": "Organization"}


def show() -> None:
    """What the visitor may change is shown as forms, the rest as text."""
    may = parts.permissions()
    ui.heading("Settings", "Of this workspace and its organization.")
    names = {
        name: title
        for name, title in VIEWS.items()
        if name != "sign-in" or {"sign_in:manage", "organization:manage"} & may
    }
    view = parts.views(names)
    here = client().get("/v1/session")["workspace"]
    if view == "workspace":
        _workspace(here, "workspace:manage" in may)
    elif view == "sign-in":
        _sign_in(may)
    else:
        _organization("organization:manage" in may)


def _workspace(here: dict[str, Any], manages: bool) -> None:
    found = client().get(f"/v1/workspaces/{here['id']}")
    st.html(
        ui.facts(
            [
                ("Address", f"<code>{escape(found['slug'])}</code>"),
                ("Members", str(found["members"])),
                ("Since", ui.clock(found["created_at"])),
            ]
        )
    )
    if not manages:
        ui.nothing(found["name"], "Its owners can change its name and address.")
        return
    with st.form("workspace"):
        name = st.text_input("Name", found["name"], max_chars=100)
        slug = st.text_input(
            "Address", found["slug"], help="Signed senders name it in ?workspace=…: theirs have to follow."
        )
        sent = st.form_submit_button("Save", type="primary")
    if sent and parts.done(
        lambda: client().patch(f"/v1/workspaces/{here['id']}", {"name": name.strip(), "slug": slug.strip()}),
        "Saved.",
    ):
        st.rerun()


def _sign_in(may: frozenset[str]) -> None:
    if "sign_in:manage" in may:
        policy = client().get("/v1/sign-in/policy")
        known = ["*", *(role["slug"] for role in client().items("/v1/roles"))]
        with st.form("policy"):
            asked = st.multiselect(
                "A second factor is asked of", known, default=policy["second_factor_for"],
                format_func=lambda slug: "everyone" if slug == "*" else slug, placeholder="Nobody",
            )  # fmt: skip
            remember = st.toggle("Browsers may be remembered", policy["remember_me"])
            idle = st.number_input(
                "Sessions end after … minutes without a request", 5, value=policy["idle_minutes"],
                placeholder="As the installation says",
            )  # fmt: skip
            sent = st.form_submit_button("Save", type="primary")
        body = {"second_factor_for": asked, "remember_me": remember, "idle_minutes": idle}
        if sent:
            parts.done(lambda: client().put("/v1/sign-in/policy", body), "Holds within seconds.")
    if "organization:manage" in may:
        _providers()


def _providers() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html("<h2 class='sw-part'>Single sign-on</h2>")
        if st.button("Add a provider", icon=":material/add:"):
            _provider()
    found = client().items("/v1/sign-in/providers")
    if not found:
        ui.nothing("No identity providers yet", "With OpenID Connect people sign in as they do elsewhere.")
    for provider in found:
        badges = ui.badge("on", "good") if provider["enabled"] else ui.badge("off", "neutral")
        about = (
            f"{provider['issuer']} · client {provider['client_id']} · returns to {provider['redirect_uri']}"
        )
        row = parts.entry(f"provider-{provider['id']}", provider["name"], badges, about)
        address = f"/v1/sign-in/providers/{provider['id']}"
        if row.button("Test", key=f"test-{provider['id']}", type="tertiary"):
            parts.done(lambda at=address: client().post(f"{at}/check"), "It answers as it should.")  # type: ignore[misc]
        if provider["managed_by"] == "api" and row.button(
            "Remove", key=f"remove-{provider['id']}", type="tertiary"
        ):
            parts.ask(
                "Remove provider",
                f"Nobody signs in by **{ui.plain(provider['name'])}** any more; accounts stay.",
                "Remove",
                lambda at=address: client().delete(at),  # type: ignore[misc]
                "The provider is gone.",
            )


@st.dialog("OpenID Connect provider")
def _provider() -> None:
    with st.form("provider", border=False):
        name = st.text_input("Name", placeholder="Stands on the button")
        issuer = st.text_input("Issuer", placeholder="https://login.example.com")
        left, right = st.columns(2)
        client_id = left.text_input("Client id")
        secret = right.text_input("Client secret", type="password", placeholder="None: PKCE alone")
        domains = st.text_input("Domains it speaks for", placeholder="example.com, example.org")
        sent = st.form_submit_button("Add", type="primary")
    body = {
        "name": name.strip(),
        "issuer": issuer.strip(),
        "client_id": client_id.strip(),
        "client_secret": secret or None,
        "domains": [text.strip() for text in domains.split(",") if text.strip()],
    }
    if sent and parts.done(lambda: client().post("/v1/sign-in/providers", body), "The provider is there."):
        st.rerun()


def _organization(manages: bool) -> None:
    found = client().get("/v1/organization")
    rooms, owners = found["workspaces"], found["owners"]
    if rooms is None or owners is None:
        ui.nothing(found["name"], "Its owners see all of its workspaces here.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html(f"<h2 class='sw-part'>{escape(found['name'])}</h2>")
        if manages and st.button("New workspace", icon=":material/add:"):
            _new_workspace()
    ui.table(
        [("Workspace", "text"), ("Address", "text"), ("Members", "number"), ("Since", "text")],
        [
            [
                escape(room["name"]), f"<code>{escape(room['slug'])}</code>",
                str(room["members"]), ui.clock(room["created_at"]),
            ]
            for room in rooms
        ],
        "No workspaces",
    )  # fmt: skip
    ui.table(
        [("Owner of the organization", "text"), ("Address", "text"), ("Since", "text")],
        [[escape(o["name"]), escape(o["email"]), ui.clock(o["since"])] for o in owners],
        "No owners",
    )


@st.dialog("New workspace")
def _new_workspace() -> None:
    with st.form("new-workspace", border=False):
        name = st.text_input("Name", max_chars=100)
        slug = st.text_input("Address", placeholder="Made from the name")
        sent = st.form_submit_button("Make", type="primary")
    body = {"name": name.strip(), "slug": slug.strip() or None}
    if sent and parts.done(lambda: client().post("/v1/workspaces", body), "The workspace is there."):
        st.rerun()
