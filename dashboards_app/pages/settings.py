"""Settings: the workspace's name, what it asks of whoever signs in, identity providers, the organization."""

from html import escape
from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import client
from dashboards_app.pages import closing, organization, providers

VIEWS = {"workspace": "Workspace", "sign-in": "Sign-in", "organization": "Organization"}


def show() -> None:
    """What the visitor may change is shown as forms, the rest as text."""
    may = parts.permissions()
    ui.heading("Settings", "Of this workspace and its organization.", narrow=True)
    names = {
        name: title
        for name, title in VIEWS.items()
        if name != "sign-in" or {"sign_in:manage", "organization:manage"} & may
    }
    view = parts.views(names)
    here = client().get("/v1/session")["workspace"]
    if view == "workspace":
        _workspace(here, "workspace:manage" in may)
        if "workspace:delete" in may:
            closing.show(here)
    elif view == "sign-in":
        _sign_in(may)
    else:
        organization.show("organization:manage" in may)


def _workspace(here: dict[str, Any], manages: bool) -> None:
    found = client().get(f"/v1/workspaces/{here['id']}")
    st.html(
        ui.facts(
            [
                ("Address", f"<code>{escape(found['slug'])}</code>"),
                ("Members", str(found["members"])),
                ("Since", ui.day(found["created_at"])),
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
        known = ["*", *editing.role_slugs()]
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
        providers.show()
