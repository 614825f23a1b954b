"""One dashboard: the canvas, its YAML, how another role sees it. Slug and role are in the page's address."""

from contextlib import suppress
from html import escape

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.canvas.component import canvas
from dashboards_app.client import Problem, client
from dashboards_app.pages import sharing


def show() -> None:
    """Mount the canvas for `?slug=`. It fetches, listens and saves by itself: nothing reruns for data."""
    slug = ui.chosen()
    if not slug:
        ui.nothing("No dashboard chosen", "Choose one from the list.")
        st.page_link(
            st.session_state["pages"]["dashboards"], label="All dashboards", icon=":material/arrow_back:"
        )
        return
    view = st.query_params.get("as", "")
    if view:
        _banner(view)
    canvas(slug, view)
    with st.container(key="dashboard-tools", horizontal=True, vertical_alignment="center"):
        st.page_link(
            st.session_state["pages"]["dashboards"], label="All dashboards", icon=":material/arrow_back:"
        )
        if st.button("YAML", icon=":material/code:", type="tertiary", help="The dashboard as code"):
            _yaml(slug)
        may = parts.permissions()
        if (
            not view
            and "dashboard:share" in may
            and st.button("Share", icon=":material/link:", type="tertiary", help="A link for whoever has it")
        ):
            st.session_state.pop("link-url", None)
            sharing.share(slug)
        if not view and "data:view_as" in may:
            _view_as()


def _banner(view: str) -> None:
    """Says for as long as it is so that this is not what the visitor sees otherwise."""
    role, *attributes = view.split(";")
    more = f" with {', '.join(attributes)}" if attributes else ""
    with st.container(key="viewing", horizontal=True, vertical_alignment="center"):
        st.html(
            f"<p class='sw-viewing' role='status'>You see this as <strong>{escape(role)}</strong>"
            f"{escape(more)} would. What rules keep from you stays hidden, too.</p>"
        )
        if st.button("Back to my own view", icon=":material/visibility:", type="tertiary"):
            del st.query_params["as"]
            st.rerun()


def _view_as() -> None:
    """Choose the role, and what people of it have: row rules compare with that."""
    with st.popover("View as…", icon=":material/visibility:", type="tertiary"):
        role = st.selectbox("Role", _roles())
        text = st.text_input(
            "Attributes", placeholder="regions=EU; regions=US", help="What row rules compare with."
        )
        if st.button("Look", type="primary"):
            given = [part.strip() for part in text.split(";")]
            st.query_params["as"] = ";".join([role, *filter(None, given)])
            st.rerun()


def _roles() -> list[str]:
    """The least of the built-in ones first, then the workspace's own, then who opens a link."""
    own: list[str] = []
    with suppress(Problem):  # who may not see roles still knows the built-in ones
        own = [role["slug"] for role in client().items("/v1/roles") if not role["builtin"]]
    return ["viewer", "analyst", "editor", "admin", "owner", *own, "link"]


@st.dialog("Dashboard as code", width="large")
def _yaml(slug: str) -> None:
    with ui.guarded():
        source = client().text(f"/v1/dashboards/{slug}/export")
        st.code(source, language="yaml", height=480)
        st.download_button(
            "Download", source, file_name=f"{slug}.yml", mime="text/yaml", icon=":material/download:"
        )
