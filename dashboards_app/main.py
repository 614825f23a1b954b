"""Entry of the Streamlit app: the shell, the navigation, who is signed in. Pages are in `dashboards_app.pages`."""

import json
from html import escape

import streamlit as st

from dashboards_app import ui
from dashboards_app.pages import (
    dashboard,
    dashboards,
    dead_letters,
    keys,
    pipeline,
    pipelines,
    quality,
)

ABOUT = "**Sluiceway**: from an event to a live, trusted number."


def navigation() -> dict[str, list[st.Page]]:
    """The pages by section; a page with an address of its own but no entry is hidden."""
    return {
        "Look": [
            st.Page(dashboards.show, title="Dashboards", url_path="dashboards", icon=":material/space_dashboard:", default=True),
            st.Page(dashboard.show, title="Dashboard", url_path="dashboard", icon=":material/monitoring:", visibility="hidden"),
        ],
        "Data": [
            st.Page(pipelines.show, title="Pipelines", url_path="pipelines", icon=":material/conversion_path:"),
            st.Page(pipeline.show, title="Pipeline", url_path="pipeline", icon=":material/conversion_path:", visibility="hidden"),
            st.Page(dead_letters.show, title="Dead letters", url_path="dead-letters", icon=":material/mark_email_unread:"),
            st.Page(quality.show, title="Quality", url_path="quality", icon=":material/verified_user:"),
        ],
        "Set up": [st.Page(keys.show, title="API keys", url_path="keys", icon=":material/key:")],
    }


def _person() -> None:
    """Who is signed in, and the way out, at the foot of the sidebar."""
    try:
        who = json.loads(st.context.headers.get("x-sluiceway-user") or "{}")
    except ValueError:
        who = {}
    name = escape(who.get("name") or who.get("email") or "Signed in")
    about = escape(who.get("email") or "")
    with st.sidebar.container(key="person"):
        st.html(
            f"<div class='sw-person'><div><strong>{name}</strong><span>{about}</span></div>"
            "<a href='/sign-out' target='_self' title='Sign out'>Sign out</a></div>"
        )


def main() -> None:
    sections = navigation()
    st.session_state["pages"] = {page.url_path or "dashboards": page for pages in sections.values() for page in pages}
    page = st.navigation(sections, position="sidebar")
    st.set_page_config(
        page_title=f"{page.title} · Sluiceway", page_icon=":material/water:", layout="wide", menu_items={"About": ABOUT}
    )
    st.logo(ui.LOGO, size="medium", link="/")
    ui.style()
    _person()
    with ui.guarded():
        page.run()


main()
