"""Entry of the Streamlit app: the shell, the navigation, who is signed in. Pages: `dashboards_app.pages`."""

import time
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client, visitor
from dashboards_app.pages import (
    access_rules,
    audit,
    dashboard,
    dashboards,
    dead_letters,
    health,
    keys,
    members,
    pipeline,
    pipelines,
    quality,
    settings,
    usage,
)

ABOUT = "**Sluiceway**: from an event to a live, trusted number."
BOARDS_EVERY_S = 15.0
MOST_BOARDS = 8

# Without icons here: Streamlit would make them the tab's icon and fetch that from a foreign host.
PAGES: dict[str, Any] = {
    "dashboards": (dashboards.show, "Dashboards"),
    "dashboard": (dashboard.show, "Dashboard"),
    "pipelines": (pipelines.show, "Pipelines"),
    "pipeline": (pipeline.show, "Pipeline"),
    "dead-letters": (dead_letters.show, "Dead letters"),
    "quality": (quality.show, "Quality"),
    "health": (health.show, "Health"),
    "members": (members.show, "Members"),
    "rules": (access_rules.show, "Access rules"),
    "keys": (keys.show, "API keys"),
    "audit": (audit.show, "Audit log"),
    "usage": (usage.show, "Usage"),
    "settings": (settings.show, "Settings"),
}
# Links of administration: icon, and what somebody must be allowed for the page to be offered.
ADMINISTRATION = {
    "members": (":material/group:", "member:read"),
    "rules": (":material/rule:", "rule:read"),
    "keys": (":material/key:", "key:read"),
    "audit": (":material/history:", "audit:read"),
    "usage": (":material/data_usage:", "usage:read"),
    "settings": (":material/settings:", "workspace:read"),
}


def main() -> None:
    st.set_page_config(page_icon=str(ui.MARK), layout="wide", menu_items={"About": ABOUT})
    pages = {
        name: st.Page(show, title=title, url_path=name, default=name == "dashboards")
        for name, (show, title) in PAGES.items()
    }
    st.session_state["pages"] = pages
    page = st.navigation(list(pages.values()), position="hidden")
    st.set_page_config(page_title=f"{page.title} · Sluiceway")
    st.logo(ui.LOGO, size="medium")
    ui.style()
    with st.sidebar:
        _navigation(pages)
        _person()
    with ui.guarded():
        page.run()


def _navigation(pages: dict[str, Any]) -> None:
    """Links to the pages; the dashboards are named under theirs."""
    with st.container(key="nav"):
        st.page_link(pages["dashboards"], icon=":material/space_dashboard:")
        if boards := _boards():
            with st.container(key="nav-boards"):
                for slug, title in boards:
                    with st.container(key=f"nav-board-{slug}"):
                        st.page_link(pages["dashboard"], label=ui.plain(title), query_params={"slug": slug})
        may = _permissions()
        st.page_link(pages["pipelines"], icon=":material/conversion_path:")
        if "dead_letter:read" in may:
            st.page_link(pages["dead-letters"], icon=":material/mark_email_unread:")
        st.page_link(pages["quality"], icon=":material/verified_user:")
        st.page_link(pages["health"], icon=":material/monitor_heart:")
        _administration(pages, may)
    ui.mark_current(f"nav-board-{ui.chosen() or ''}")


def _administration(pages: dict[str, Any], may: frozenset[str]) -> None:
    offered = [(name, icon) for name, (icon, permission) in ADMINISTRATION.items() if permission in may]
    if offered:
        st.html("<div class='sw-nav-part'>Administration</div>")
    for name, icon in offered:
        st.page_link(pages[name], icon=icon)


def _permissions() -> frozenset[str]:
    """What the visitor may do; nothing if that cannot be asked: the page itself says what is wrong."""
    try:
        return parts.permissions()
    except Problem:
        return frozenset()


def _boards() -> list[tuple[str, str]]:
    """Slug and title of the first dashboards, asked for at most every few seconds a visitor."""
    at, found = st.session_state.get("boards", (0.0, []))
    if time.monotonic() - at > BOARDS_EVERY_S:
        try:
            items = client().items("/v1/dashboards", limit=MOST_BOARDS)
            found = [(item["slug"], item["title"]) for item in items]
        except Problem:
            pass  # the page itself says what is wrong
        st.session_state["boards"] = (time.monotonic(), found)
    return list(found)


def _person() -> None:
    """Who is signed in, and the way out, at the foot of the sidebar."""
    who = visitor()
    name = escape(who.get("name") or who.get("email") or "Signed in")
    about = escape(who.get("email") or "")
    with st.container(key="person"):
        st.html(
            "<div class='sw-person'>"
            "<a class='sw-account' href='/account' target='_self' title='Your account'>"
            f"<strong>{name}</strong><span>{about}</span></a>"
            "<a href='/sign-out' target='_self'>Sign out</a></div>"
        )


main()
