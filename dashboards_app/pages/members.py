"""Members of the workspace: who is there, who was invited, teams, roles, and where people are signed in."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client
from dashboards_app.pages import roles, sessions, teams

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
        ui.heading("Members", "Who is in this workspace, and what they may do.")
        if "member:manage" in may and st.button("Invite", icon=":material/person_add:", type="primary"):
            st.session_state.pop("invitation-link", None)
            _invite()
    names = dict(VIEWS)
    if "session:manage" in may:
        names["sessions"] = "Sessions"
    view = parts.views(names)
    manages = "member:manage" in may
    if view == "members":
        _members(manages)
    elif view == "invitations":
        _invitations(manages)
    elif view == "teams":
        teams.show(manages)
    elif view == "roles":
        roles.show("role:manage" in may)
    else:
        sessions.show()


def _members(manages: bool) -> None:
    search = st.text_input("Search", placeholder="Name or address", label_visibility="collapsed", width=320)
    found = client().get("/v1/members", limit=100, search=search.strip() or None)
    if not found["items"]:
        ui.nothing("Nobody found", "No member's name or address holds this text.")
    for member in found["items"]:
        _member(member, manages)
    if found.get("next_cursor"):
        st.caption("Only the first 100 are shown: search for the others.")


def _member(member: dict[str, Any], manages: bool) -> None:
    badges = ui.badge(member["role"], "good" if member["role"] == "owner" else "neutral")
    if member["state"] == "disabled":
        badges += " " + ui.badge("locked out", "critical")
    seen = f"seen {ui.ago(member['last_seen_at'])}" if member["last_seen_at"] else "not signed in"
    named = [team["name"] for team in member["teams"]]
    given = [f"{name} = {', '.join(values)}" for name, values in member["attributes"].items()]
    about = " · ".join([member["email"], *named, *given, seen])
    row = parts.entry(f"member-{member['id']}", member["name"], badges, about)
    if manages and row.button("Change", key=f"change-{member['id']}", type="tertiary"):
        _change(member)


@st.dialog("Change member")
def _change(member: dict[str, Any]) -> None:
    st.write(f"**{ui.plain(member['name'])}** · {ui.plain(member['email'])}")
    known = [role["slug"] for role in client().items("/v1/roles")]
    all_teams = {team["slug"]: team["name"] for team in client().items("/v1/teams")}
    with st.form("member", border=False):
        role = st.selectbox("Role", known, index=known.index(member["role"]))
        chosen = st.multiselect(
            "Teams", list(all_teams), default=[team["slug"] for team in member["teams"]],
            format_func=lambda slug: all_teams.get(slug, slug), placeholder="None",
        )  # fmt: skip
        attributes = st.text_area(
            "Attributes", parts.attributes_text(member["attributes"]), placeholder="region: emea, apac",
            help="Row rules compare with these: a name a line, its values with commas.",
        )  # fmt: skip
        disabled = st.toggle("Locked out", member["state"] == "disabled")
        sent = st.form_submit_button("Save", type="primary")
    body = {
        "role": role,
        "teams": chosen,
        "attributes": parts.attributes_of(attributes),
        "disabled": disabled,
    }
    address = f"/v1/members/{member['id']}"
    if sent and parts.done(lambda: client().patch(address, body), "Saved."):
        st.rerun()
    with st.expander("More"):
        st.write(
            "Handing ownership over makes them an owner and you an admin. Removing hands their dashboards,"
            " links and keys to the owner who has been here longest, and signs them out."
        )
        left, middle, right = st.columns(3)
        if left.button("Hand ownership over") and parts.done(
            lambda: client().post(f"{address}/ownership", {}), "They are an owner now."
        ):
            st.rerun()
        if middle.button("Reset second factor") and parts.done(
            lambda: client().delete(f"{address}/second-factor"), "They set up a new one at the next sign-in."
        ):
            st.rerun()
        if right.button("Remove") and parts.done(lambda: client().delete(address), "They have left."):
            st.rerun()


@st.dialog("Invite somebody")
def _invite() -> None:
    if link := st.session_state.get("invitation-link"):
        why = "This installation sends no mail. Hand the link over yourself; it cannot be shown again."
        parts.shown_once(link, "invitation-link", why)
        return
    known = [role["slug"] for role in client().items("/v1/roles")]
    all_teams = {team["slug"]: team["name"] for team in client().items("/v1/teams")}
    with st.form("invite", border=False):
        email = st.text_input("E-mail address", placeholder="ada@example.com")
        role = st.selectbox("Role", known, index=known.index("viewer"))
        chosen = st.multiselect(
            "Teams", list(all_teams), format_func=all_teams.__getitem__, placeholder="None"
        )
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
    found = client().items("/v1/invitations", limit=100)
    if not found:
        ui.nothing("Nobody was invited yet", "Invite people by their e-mail address: a link lets them in.")
    for invitation in found:
        _invitation(invitation, manages)


def _invitation(invitation: dict[str, Any], manages: bool) -> None:
    words, tone = _INVITATIONS[invitation["state"]]
    badges = ui.badge(words, tone) + " " + ui.badge(invitation["role"], "neutral")
    if invitation["mail"] == "refused":
        badges += " " + ui.badge("mail refused", "critical", invitation["mail_problem"] or "")
    about = " · ".join(
        [
            f"invited by {invitation['inviter'] or 'the command line'} {ui.ago(invitation['created_at'])}",
            _MAILS[invitation["mail"]],
            f"works until {ui.clock(invitation['expires_at'])}",
        ]
    )
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
