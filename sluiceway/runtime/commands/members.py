"""`sluiceway member`: who belongs to a workspace, and as what."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.runtime.commands.people import (
    AttributeOption,
    Email,
    TeamOption,
    attributes_of,
    team_ids,
    told,
)
from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.identity.members import Change, Member

app = typer.Typer(help="List, change and remove members; hand ownership over.", no_args_is_help=True)

Search = Annotated[str | None, typer.Option(help="Part of a name or an address.")]


@app.command("list")
def list_(search: Search = None, workspace: WorkspaceOption = None) -> None:
    """List members with their roles, teams and attributes."""
    from sluiceway.identity.members import list_members

    with in_workspace(workspace) as (connection, room):
        found = list_members(connection, room, limit=100_000, search=search)
    for member in found:
        locked = member.disabled_at is not None or member.user.disabled_at is not None
        teams = ",".join(team.slug for team in member.teams) or "-"
        typer.echo(
            f"{member.user.email:40} {member.role:16} {'disabled' if locked else 'active':8}"
            f" {teams:20} {told(member.attributes)}"
        )


@app.command()
def add(
    email: Email,
    role: Annotated[str, typer.Option(help="A role, built in or the workspace's own.")] = "viewer",
    workspace: WorkspaceOption = None,
) -> None:
    """Make somebody who has an account a member. Who has none is invited: `sluiceway invite`."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import seats
    from sluiceway.identity.errors import AlreadyMember, InvalidMember
    from sluiceway.identity.giving import role_problem
    from sluiceway.identity.members import list_members
    from sluiceway.identity.service import add_member, find_user
    from sluiceway.kit.errors import NotFound
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        user = find_user(connection, email)
        if user is None:
            raise NotFound(f"Nobody has an account with the address {email}: `sluiceway invite` asks them.")
        if (problem := role_problem(connection, room, role)) is not None:
            raise InvalidMember(f"role {problem.message}", errors=[problem])
        if any(member.user.id == user.id for member in list_members(connection, room, limit=100_000)):
            raise AlreadyMember(f"{email} is a member already: `sluiceway member change` changes the role.")
        seats.check(connection, room)
        add_member(connection, room, user.id, role)
        note_command(
            connection, Action.MEMBER_JOINED, target="member", target_id=user.id,
            after={"email": user.email, "role": role},
        )  # fmt: skip
    typer.echo(f"{user.email} is a member, as {role}.")


@app.command()
def change(
    email: Email,
    role: Annotated[str | None, typer.Option(help="Another role.")] = None,
    attributes: AttributeOption = None,
    teams: TeamOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Change role, attributes or teams; what is not named stays.

    The options name all attributes and all teams, not only those to add.
    """
    from sluiceway.identity.members import Change

    with in_workspace(workspace) as (connection, room):
        wanted = Change(role, attributes_of(attributes), team_ids(connection, room, teams))
        after = _change(connection, room, email, wanted)
    typer.echo(f"{email} is {after.role} here. {told(after.attributes)}".rstrip())


@app.command()
def disable(email: Email, workspace: WorkspaceOption = None) -> None:
    """Lock a member out of this workspace at once; they stay a member."""
    from sluiceway.identity.members import Change

    with in_workspace(workspace) as (connection, room):
        _change(connection, room, email, Change(disabled=True))
    typer.echo(f"{email} is locked out here.")


@app.command()
def enable(email: Email, workspace: WorkspaceOption = None) -> None:
    """Let a member in again."""
    from sluiceway.identity.members import Change

    with in_workspace(workspace) as (connection, room):
        _change(connection, room, email, Change(disabled=False))
    typer.echo(f"{email} is let in again.")


@app.command()
def remove(
    email: Email,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Who gets what was theirs; default: the longest-standing owner."),
    ] = None,
    revoke_keys: Annotated[
        bool, typer.Option("--revoke-keys", help="Refuse the keys they made, instead of handing them over.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """End a membership; dashboards, links and keys are somebody else's from then on."""
    from sluiceway.audit.actions import Action
    from sluiceway.dashboards.service import hand_over_dashboards
    from sluiceway.identity import leaving
    from sluiceway.identity.members import find_member, remove_member
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        member = find_member(connection, room, email)
        heir = None if to is None else find_member(connection, room, to).user.id
        left = remove_member(
            connection, room, member.user.id, giver=None, now=datetime.now(UTC), successor_id=heir,
            handovers={
                "dashboards": hand_over_dashboards,
                "links": leaving.hand_over_links,
                "keys": leaving.revoke_keys if revoke_keys else leaving.hand_over_keys,
            },
        )  # fmt: skip
        note_command(
            connection, Action.MEMBER_REMOVED, target="member", target_id=member.user.id,
            before={"email": member.user.email, "role": member.role},
            detail={"successor": left.successor.user.id, "handed_over": dict(left.handed_over)},
        )  # fmt: skip
    things = ", ".join(f"{count} {kind}" for kind, count in left.handed_over.items() if count) or "nothing"
    typer.echo(f"{email} is a member no more. To {left.successor.user.email}: {things}.")


@app.command("hand-over")
def hand_over(
    owner: Annotated[str, typer.Argument(help="Address of who owns the workspace now.")],
    to: Annotated[str, typer.Argument(help="Address of the member who is to own it.")],
    afterwards: Annotated[str, typer.Option(help="The role of the one before, from then on.")] = "admin",
    workspace: WorkspaceOption = None,
) -> None:
    """Hand the ownership of a workspace over."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.members import find_member, hand_over_ownership
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        before = find_member(connection, room, owner).user.id
        heir = find_member(connection, room, to).user.id
        hand_over_ownership(connection, room, before, heir, afterwards=afterwards)
        note_command(
            connection, Action.WORKSPACE_HANDED_OVER, target="workspace", target_id=room,
            before={"owner": before}, after={"owner": heir}, detail={"afterwards": afterwards},
        )  # fmt: skip
    typer.echo(f"{to} owns the workspace; {owner} is {afterwards}.")


def _change(connection: "sa.Connection", room: int, email: str, wanted: "Change") -> "Member":
    from sluiceway.audit.actions import Action
    from sluiceway.identity.members import change_member, find_member
    from sluiceway.runtime.auditing import note_command

    member = find_member(connection, room, email)
    before, after, _ = change_member(
        connection, room, member.user.id, wanted, giver=None, now=datetime.now(UTC)
    )
    note_command(
        connection, Action.MEMBER_CHANGED, target="member", target_id=member.user.id,
        before=_as_told(before), after=_as_told(after),
    )  # fmt: skip
    return after


def _as_told(member: "Member") -> dict[str, object]:
    return {
        "role": member.role,
        "teams": [team.slug for team in member.teams],
        "attributes": member.attributes,
        "disabled": member.disabled_at is not None,
    }
