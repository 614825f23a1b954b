"""What the pages of administration share: rows with buttons, asking once more, what the visitor may do.

Not here: style and words of every page (`ui`), addresses of the API (`client`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import Problem, client

_PERMISSIONS_S = 10.0


def permissions() -> frozenset[str]:
    """What the visitor may do, so that nothing is offered that would be refused."""
    at, found = st.session_state.get("permissions", (0.0, frozenset()))
    if time.monotonic() - at > _PERMISSIONS_S:
        found = frozenset(client().get("/v1/session")["permissions"])
        st.session_state["permissions"] = (time.monotonic(), found)
    return frozenset(found)


def views(names: Mapping[str, str]) -> str:
    """Which part of a page is shown: chosen by a row of names, kept in the address."""
    wanted = st.query_params.get("view", "")
    first = wanted if wanted in names else next(iter(names))
    chosen = st.segmented_control(
        "View", list(names), format_func=names.__getitem__, default=first, label_visibility="collapsed",
        key=f"views-{next(iter(names))}",
    )  # fmt: skip
    view = chosen or first
    if len(names) > 1 and view != wanted:
        st.query_params["view"] = view
    return view


def entry(key: str, title: str, badges: str, about: str) -> Any:
    """A bordered row: a title, HTML badges, a line about it; buttons are put into what is returned."""
    row = st.container(key=f"key-{key}", border=True, horizontal=True, vertical_alignment="center")
    row.html(
        f"<div class='sw-key'><strong>{escape(title)}</strong> {badges}<span>{escape(about)}</span></div>"
    )
    return row


def done(call: Callable[[], Any], said: str) -> bool:
    """Do what a button asks for; what went wrong is said in its place. True: it is done."""
    try:
        call()
    except Problem as found:
        ui.problem(found)
        return False
    st.toast(ui.plain(said), icon=":material/check:")
    return True


def shown_once(
    text: str, kept: str, why: str = "Copy it now: it is not kept and cannot be shown again."
) -> None:
    """A secret that cannot be had again; `kept`: where in the session it waits for being copied."""
    st.write(why)
    st.code(text, language=None, wrap_lines=True)
    if st.button("Done", type="primary"):
        st.session_state.pop(kept, None)
        st.rerun()


def ask(title: str, text: str, button: str, call: Callable[[], Any], said: str) -> None:
    """A dialog that asks once more before something that cannot be taken back."""

    @st.dialog(title)
    def confirm() -> None:
        st.write(text)
        if st.button(button, type="primary") and done(call, said):
            st.rerun()

    confirm()


def attributes_text(found: Mapping[str, Sequence[str]]) -> str:
    """Attributes as people write them: a line each, `region: emea, apac`."""
    return "\n".join(f"{name}: {', '.join(values)}" for name, values in found.items())


def attributes_of(text: str) -> dict[str, list[str]]:
    """What `attributes_text` made; a line without a colon is a name without values."""
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, values = line.partition(":")
        found[name.strip()] = [value.strip() for value in values.split(",") if value.strip()]
    return found
