"""Where members are signed in, and ending it: one session, one person's, everybody's. A part of Members."""

from collections.abc import Iterable
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client
from sluiceway.kit.devices import device

ADDRESS = "/v1/sessions"


def show() -> None:
    """Everybody's sessions, by person; the person whose session was begun last comes first."""
    with st.container(horizontal=True, vertical_alignment="center", key="session-tools"):
        search = st.text_input(
            "Search", placeholder="Address of a member", label_visibility="collapsed", width=320
        )
        ends_all = st.button("Sign everybody else out", icon=":material/logout:")
    everyone = _all()
    people = _by_person(s for s in everyone if search.strip().lower() in s["email"].lower())
    others = [session for session in everyone if not session["current"]]
    if ends_all:
        _end_many("Sign everybody else out", "Everybody but you", others)
    if not people:
        ui.nothing("Nobody found", "No member who is signed in has this text in their address.")
    for email, held in people.items():
        _person(email, held)


def _all() -> list[dict[str, Any]]:
    """Every session: whoever ends many of them must see all."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = client().get(ADDRESS, limit=200, cursor=cursor)
        found += page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return found


def _by_person(sessions: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    people: dict[str, list[dict[str, Any]]] = {}
    for session in sessions:
        people.setdefault(session["email"], []).append(session)
    return people


def _person(email: str, held: list[dict[str, Any]]) -> None:
    others = [session for session in held if not session["current"]]
    with st.container(horizontal=True, vertical_alignment="center", key=f"who-{held[0]['user_id']}"):
        st.html(f"<h2 class='sw-part'>{escape(email)}</h2>")
        if len(others) > 1 and st.button(
            f"End {'all' if len(others) == len(held) else 'the other'} {len(others)}",
            key=f"end-all-{held[0]['user_id']}",
            type="tertiary",
        ):
            _end_many("End sessions", email, others)
    for session in held:
        _row(session)


def _row(session: dict[str, Any]) -> None:
    badges = [ui.badge("this one", "good")] if session["current"] else []
    if session["second_factor"]:
        badges.append(ui.badge("second factor", "good"))
    if session["remembered"]:
        badges.append(ui.tag("remembered"))
    about = [
        session["address"], f"by {session['method']}", f"seen {ui.ago(session['last_seen_at'])}",
        f"ends {ui.clock(session['expires_at'])}",
    ]  # fmt: skip
    row = parts.entry(f"session-{session['id']}", device(session["user_agent"]), " ".join(badges), about)
    if not session["current"] and row.button("End", key=f"end-{session['id']}", type="tertiary"):
        parts.ask(
            "End session",
            f"**{ui.plain(session['email'])}** is signed out there within seconds.",
            "End",
            lambda: client().delete(f"{ADDRESS}/{session['id']}"),
            "The session has ended.",
        )


def _end_many(title: str, whose: str, sessions: list[dict[str, Any]]) -> None:
    if not sessions:
        st.toast("There is no other session.", icon=":material/info:")
        return
    many = ui.some(len(sessions), "session")
    parts.ask(
        title,
        f"**{ui.plain(whose)}**: {many} end within seconds. People sign in again where they need to; keys of"
        " programs go on working.",
        f"End {many}",
        lambda: _end([session["id"] for session in sessions]),
        f"{many} ended.",
    )


def _end(ids: list[str]) -> None:
    """Each by itself. What has ended in between is no error; what goes wrong says how far it came."""
    for count, session_id in enumerate(ids):
        try:
            client().delete(f"{ADDRESS}/{session_id}")
        except Problem as found:
            if found.status == 404:
                continue
            if count:
                found.detail = f"{count} of {len(ids)} have ended. {found.detail}".strip()
            raise
