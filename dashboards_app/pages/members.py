"""Members of the workspace: who is there, who was invited, teams, roles, and where people are signed in."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards_app import editing, parts, ui
from dashboards_app.client import Problem, client, visitor
from dashboards_app.pages import removing, roles, sessions, teams

VIEWS = {"members": "Members", "invitations": "Invitations", "teams": "Teams", "roles": "Roles"}
_INVITATIONS = {
    "open": ("Waiting", "warning"),
    "accepted": ("Accepted", "good"),
    "revoked": ("Taken back", "neutral"),
    "expired": ("Expired", "neutral"),
}
_MAILS = {
    "none": "no mail was sent",
    "waiting": "the mail is on its way",
    "sent": "mailed",
    "refused": "the mail was refused",
}


def show() -> None:
    """One list at a time; what is offered is what the visitor may do."""
    may = parts.permissions()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading("Members", "Who is in this workspace, and what they may do.", narrow=True)
        if "member:manage" in may and st.button("Invite", icon=":material/person_add:", type="primary"):
            st.session_state.pop("invitation-link", None)
            _invite()
    names = dict(VIEWS)
    if "session:manage" in may:
        names["sessions"] = "Sessions"
    view = parts.views(names)
    manages = "member:manage" in may
    if view == "members":
        _members(may)
    elif view == "invitations":
        _invitations(manages)
    elif view == "teams":
        teams.show(manages)
    elif view == "roles":
        roles.show("role:manage" in may)
    else:
        sessions.show()


def _members(may: frozenset[str]) -> None:
    search = st.text_input("Search", placeholder="Name or address", label_visibility="collapsed", width=320)
    if not parts.each("/v1/members", lambda member: _member(member, may), search=search.strip() or None):
        ui.nothing("Nobody found", "No member's name or address holds this text.")


def _member(member: dict[str, Any], may: frozenset[str]) -> None:
    own = member["id"] == visitor().get("id")
    badges = [ui.tag(member["role"])]
    if own:
        badges.append(ui.tag("you"))
    if member["state"] == "disabled":
        badges.append(ui.badge("locked out", "critical"))
    seen = f"seen {ui.ago(member['last_seen_at'])}" if member["last_seen_at"] else "not signed in"
    named = [team["name"] for team in member["teams"]]
    about = [member["email"], *named, *editing.attributes_told(member["attributes"]), seen]
    row = parts.entry(f"member-{member['id']}", member["name"], " ".join(badges), about)
    if "member:manage" not in may:
        return
    if row.button("Change", key=f"change-{member['id']}", type="tertiary"):
        editing.edit("member", "/v1/members", _fields, member, name="id")
    acts = {} if own else _acts(member, may)
    if acts and (act := row.menu_button("More", list(acts), key=f"more-{member['id']}", type="tertiary")):
        acts[act](member)


def _acts(member: dict[str, Any], may: frozenset[str]) -> dict[str, Callable[[dict[str, Any]], None]]:
    """What can be done to another member besides changing them, by what it is called."""
    acts: dict[str, Callable[[dict[str, Any]], None]] = {"Reset second factor": _reset_factor}
    if "workspace:manage" in may and member["state"] == "active":
        acts["Hand ownership over"] = _hand_over
    return {**acts, "Remove from workspace": removing.remove}


def _reset_factor(member: dict[str, Any]) -> None:
    parts.ask(
        "Reset second factor",
        f"For **{ui.plain(member['name'])}**, who lost phone and recovery codes: the authenticator app, its"
        " codes and all passkeys go, and every session ends. The password stays.",
        "Reset",
        lambda: client().delete(f"/v1/members/{member['id']}/second-factor"),
        "They set up a new one at the next sign-in.",
    )


def _hand_over(member: dict[str, Any]) -> None:
    parts.ask(
        "Hand ownership over",
        f"**{ui.plain(member['name'])}** becomes an owner of this workspace, and you become an admin. Only an"
        " owner can give it back to you.",
        "Hand over",
        lambda: client().post(f"/v1/members/{member['id']}/ownership", {}),
        "They are an owner now.",
    )


def _fields(member: editing.Found) -> dict[str, Any]:
    st.html(ui.who(member["name"], member["email"]))
    known = list(dict.fromkeys([*editing.role_slugs(), member["role"]]))
    return {
        "role": st.selectbox("Role", known, index=known.index(member["role"])),
        "teams": editing.teams([team["slug"] for team in member["teams"]]),
        "attributes": editing.attributes("Attributes", member["attributes"]),
        "disabled": st.toggle("Locked out", member["state"] == "disabled"),
    }


@st.dialog("Invite somebody")
def _invite() -> None:
    why = "This installation sends no mail. Hand the link over yourself; it cannot be shown again."
    if parts.secret_waits("invitation-link", why):
        return
    known = editing.role_slugs()
    with st.form("invite", border=False):
        email = st.text_input("E-mail address", placeholder="ada@example.com")
        role = st.selectbox("Role", known, index=known.index("viewer"))
        chosen = editing.teams([])
        days = st.number_input("The link works for … days", 1, 30, 7)
        sent = st.form_submit_button("Invite", type="primary")
    if not sent:
        return
    try:
        body = {"email": email.strip(), "role": role, "teams": chosen, "days": int(days)}
        made = client().post("/v1/invitations", body)
    except Problem as found:
        ui.problem(found)
        return
    if made["link"]:
        st.session_state["invitation-link"] = made["link"]
        st.rerun(scope="fragment")
    st.toast(ui.plain(f"{email.strip()} has mail."), icon=":material/mail:")
    st.rerun()


def _invitations(manages: bool) -> None:
    if not parts.each("/v1/invitations", lambda invitation: _invitation(invitation, manages)):
        ui.nothing("Nobody was invited yet", "Invite people by their e-mail address: a link lets them in.")


def _invitation(invitation: dict[str, Any], manages: bool) -> None:
    words, tone = _INVITATIONS[invitation["state"]]
    badges = ui.badge(words, tone) + " " + ui.tag(invitation["role"])
    if invitation["mail"] == "refused":
        badges += " " + ui.badge("mail refused", "critical", invitation["mail_problem"] or "")
    ends = [f"works until {ui.clock(invitation['expires_at'])}"] if invitation["state"] == "open" else []
    about = [
        f"invited by {invitation['inviter'] or 'the command line'} {ui.ago(invitation['created_at'])}",
        _MAILS[invitation["mail"]],
        *ends,
    ]
    row = parts.entry(f"invitation-{invitation['id']}", invitation["email"], badges, about)
    if not manages or invitation["state"] not in ("open", "expired"):
        return
    address = f"/v1/invitations/{invitation['id']}"
    if row.button("Send again", key=f"again-{invitation['id']}", type="tertiary"):
        try:
            again = client().post(f"{address}/sending")
        except Problem as found:
            ui.problem(found)
        else:
            if again["link"]:
                st.session_state["invitation-link"] = again["link"]
                _invite()
            else:
                st.toast("The mail is on its way.", icon=":material/mail:")
    if invitation["state"] == "open" and row.button(
        "Take back", key=f"back-{invitation['id']}", type="tertiary"
    ):
        parts.ask(
            "Take the invitation back",
            f"The link of **{ui.plain(invitation['email'])}** stops working at once.",
            "Take back",
            lambda: client().delete(address),
            "The link works no more.",
        )
