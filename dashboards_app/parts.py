"""What the pages of administration share: rows with buttons, asking once more, what the visitor may do.

Not here: style and words of every page (`ui`), addresses of the API (`client`).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any, Literal

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


def entry(key: str, title: str, badges: str, about: Iterable[str]) -> Any:
    """A bordered row: a title, HTML badges, what is told of it; buttons are put into what is returned."""
    row = st.container(key=f"key-{key}", border=True, horizontal=True, vertical_alignment="center")
    told = " · ".join(filter(None, about))
    row.html(f"<div class='sw-key'><strong>{escape(title)}</strong> {badges}<p>{escape(told)}</p></div>")
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


def each(path: str, row: Callable[[dict[str, Any]], None], *, limit: int = 50, **wanted: Any) -> int:
    """A row for each item of a list of the API's, and a button for more of them. Returns how many there are.

    Another search (`wanted`) begins anew with the first `limit`.
    """
    key = f"shown-{path}-{sorted(wanted.items())}"
    most = st.session_state.get(key, limit)
    cursor, count = None, 0
    while count < most:
        found = client().get(path, limit=limit, cursor=cursor, **wanted)
        for item in found["items"]:
            row(item)
        count, cursor = count + len(found["items"]), found.get("next_cursor")
        if cursor is None:
            return count
    if st.button("Show more", key=f"more-{path}", icon=":material/expand_more:", type="tertiary"):
        st.session_state[key] = most + limit
        st.rerun()
    return count


def secret_waits(
    kept: str,
    why: str = "Copy it now: it is not kept and cannot be shown again.",
    scope: Literal["app", "fragment"] = "app",
) -> bool:
    """Whether a secret that was made just now is shown, instead of the form for it, until it was copied.

    `kept`: where in the session it waits for that (`keep_secret`). `scope`: `fragment` leads back to the
    form, `app` closes the dialog.
    """
    text = st.session_state.get(kept)
    if not text:
        return False
    st.write(why)
    st.code(text, language=None, wrap_lines=True)
    if st.button("Done", type="primary"):
        st.session_state.pop(kept, None)
        st.rerun(scope=scope)
    return True


def keep_secret(kept: str, call: Callable[[], dict[str, Any]], name: str = "key") -> None:
    """Do what a dialog's form asks for; what `name` of the answer is, the dialog shows next."""
    try:
        made = call()
    except Problem as found:
        ui.problem(found)
        return
    st.session_state[kept] = made[name]
    st.rerun(scope="fragment")


def ask(title: str, text: str, button: str, call: Callable[[], Any], said: str) -> None:
    """A dialog that asks once more before something that cannot be taken back. `text`: Markdown."""

    @st.dialog(title)
    def confirm() -> None:
        st.write(text)
        if buttons(button) and done(call, said):
            st.rerun()

    confirm()


def buttons(label: str) -> bool:
    """A dialog's end: the button that does it, and the way out. True: it is to be done."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", type="tertiary"):
            st.rerun()
        return st.button(label, type="primary")
