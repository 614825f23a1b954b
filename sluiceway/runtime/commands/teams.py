"""`sluiceway team`: members under one name, with roles and attributes."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.runtime.commands.people import AttributeOption, Email, attributes_of, told
from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

if TYPE_CHECKING:
    from sluiceway.identity.teams import Team

app = typer.Typer(help="List, make, change and remove teams, and who is in them.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(help="The team's slug, as `team list` shows it.")]
Roles = Annotated[
    list[str] | None, typer.Option("--role", help="A role that the team gives; may be repeated.")
]


@app.command("list")
def list_(workspace: WorkspaceOption = None) -> None:
    """List teams with what they give."""
    from sluiceway.identity.teams import list_teams

    with in_workspace(workspace) as (connection, room):
        found = list_teams(connection, room)
    for team in found:
        roles = ",".join(team.roles) or "-"
        typer.echo(f"{team.slug:24} {team.members:4} members  {roles:24} {told(team.attributes)}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people read.")],
    roles: Roles = None,
    attributes: AttributeOption = None,
    slug: Annotated[str | None, typer.Option(help="Default: made from the name.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Make a team."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.teams import create_team
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        made = create_team(
            connection, room, name, giver=None, slug=slug, description=description, roles=roles or [],
            attributes=attributes_of(attributes),
        )  # fmt: skip
        note_command(
            connection, Action.TEAM_CREATED, target="team", target_id=made.slug, after=_as_told(made)
        )
    typer.echo(f"{made.slug} is a team.")


@app.command()
def change(
    slug: Slug,
    roles: Roles = None,
    attributes: AttributeOption = None,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    description: Annotated[str | None, typer.Option(help="Another description.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Change a team; what is not named stays. The options name all its roles and all its attributes."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.teams import change_team, get_team
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        before, after = change_team(
            connection, room, get_team(connection, room, slug).id, giver=None, now=datetime.now(UTC),
            name=name, description=description, roles=roles, attributes=attributes_of(attributes),
        )  # fmt: skip
        note_command(
            connection, Action.TEAM_CHANGED, target="team", target_id=slug, before=_as_told(before),
            after=_as_told(after),
        )  # fmt: skip
    typer.echo(f"{slug} gives {','.join(after.roles) or 'no role'}. {told(after.attributes)}".rstrip())


@app.command()
def delete(slug: Slug, workspace: WorkspaceOption = None) -> None:
    """Remove a team; its members stay members."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.teams import delete_team, get_team
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        gone = delete_team(connection, room, get_team(connection, room, slug).id, giver=None)
        note_command(connection, Action.TEAM_DELETED, target="team", target_id=slug, before=_as_told(gone))
    typer.echo(f"{slug} is gone.")


@app.command()
def add(slug: Slug, email: Email, workspace: WorkspaceOption = None) -> None:
    """Put a member into a team."""
    _move(slug, email, workspace, inside=True)
    typer.echo(f"{email} is in {slug}.")


@app.command()
def remove(slug: Slug, email: Email, workspace: WorkspaceOption = None) -> None:
    """Take a member out of a team."""
    _move(slug, email, workspace, inside=False)
    typer.echo(f"{email} is not in {slug}.")


def _move(slug: str, email: str, workspace: str | None, *, inside: bool) -> None:
    from sluiceway.audit.actions import Action
    from sluiceway.identity.members import find_member
    from sluiceway.identity.teams import add_to_team, get_team, take_from_team
    from sluiceway.runtime.auditing import note_command

    move = add_to_team if inside else take_from_team
    action = Action.TEAM_MEMBER_ADDED if inside else Action.TEAM_MEMBER_REMOVED
    with in_workspace(workspace) as (connection, room):
        member = find_member(connection, room, email)
        move(connection, room, get_team(connection, room, slug).id, member.user.id, giver=None)
        note_command(connection, action, target="team", target_id=slug, detail={"member": member.user.id})


def _as_told(team: "Team") -> dict[str, object]:
    return {"name": team.name, "roles": list(team.roles), "attributes": team.attributes}
