"""`sluiceway invite` and `sluiceway invitation`: asking people to join a workspace."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sluiceway.runtime.commands.people import AttributeOption, Email, TeamOption, attributes_of, team_ids
from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.identity.invitations import Invitation
    from sluiceway.infra.database import Database
    from sluiceway.infra.settings import Settings

app = typer.Typer(help="List, send again and take back invitations.", no_args_is_help=True)

Which = Annotated[UUID, typer.Argument(help="The invitation's id, as `invitation list` shows it.")]


def invite(
    email: Email,
    role: Annotated[str, typer.Option(help="A role, built in or the workspace's own.")] = "viewer",
    teams: TeamOption = None,
    attributes: AttributeOption = None,
    days: Annotated[int, typer.Option(min=1, max=30, help="How long the link works.")] = 7,
    workspace: WorkspaceOption = None,
) -> None:
    """Invite somebody by mail; where no mail is set up, print the link, which cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import invitations
    from sluiceway.runtime.auditing import note_command

    with _open(workspace) as (settings, database, connection, room):
        made, token = invitations.invite(
            connection, room, email, role, giver=None, now=datetime.now(UTC),
            teams=team_ids(connection, room, teams) or [], attributes=attributes_of(attributes), days=days,
        )  # fmt: skip
        said = _send(settings, database, connection, room, made, token)
        note_command(
            connection, Action.MEMBER_INVITED, target="invitation", target_id=made.id,
            after={"email": made.email, "role": made.role, "attributes": made.attributes},
        )  # fmt: skip
    typer.echo(said)


@app.command("list")
def list_(
    all_: Annotated[bool, typer.Option("--all", help="Also those that were answered or have ended.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """List invitations that wait for an answer, newest first."""
    from sluiceway.identity.invitations import list_invitations

    now = datetime.now(UTC)
    with in_workspace(workspace) as (connection, room):
        found = list_invitations(connection, room, limit=100_000, open_only=not all_)
    for one in found:
        until = f"until {one.expires_at:%Y-%m-%d %H:%M}"
        mail = f"mail {one.mail}" + (f": {one.mail_problem}" if one.mail_problem else "")
        typer.echo(f"{one.id}  {one.email:40} {one.role:16} {one.state(now):8} {until}  {mail}")


@app.command()
def resend(invitation: Which, workspace: WorkspaceOption = None) -> None:
    """Send an invitation again, with a new link; the one before is worth nothing."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.invitations import send_again
    from sluiceway.runtime.auditing import note_command

    with _open(workspace) as (settings, database, connection, room):
        found, token = send_again(connection, room, invitation, giver=None, now=datetime.now(UTC))
        said = _send(settings, database, connection, room, found, token)
        note_command(connection, Action.INVITATION_SENT_AGAIN, target="invitation", target_id=found.id)
    typer.echo(said)


@app.command()
def revoke(invitation: Which, workspace: WorkspaceOption = None) -> None:
    """Take an invitation back: its link is worth nothing."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.invitations import revoke_invitation
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = revoke_invitation(connection, room, invitation, now=datetime.now(UTC))
        note_command(connection, Action.INVITATION_REVOKED, target="invitation", target_id=found.id)
    typer.echo(f"The invitation of {found.email} is taken back.")


@contextmanager
def _open(slug: str | None) -> "Iterator[tuple[Settings, Database, sa.Connection, int]]":
    """A transaction in the workspace, with what sending mail needs."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.commands.workspace import enter
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    with (
        command_database(settings) as database,
        database.transaction(Role.APP) as connection,
    ):
        yield settings, database, connection, enter(connection, slug)


def _send(
    settings: "Settings",
    database: "Database",
    connection: "sa.Connection",
    room: int,
    invitation: "Invitation",
    token: str,
) -> str:
    """Queue the mail; returns what to print: the link, if there is no mail."""
    from sluiceway.identity.invitation_mail import link_of, mail_invitation

    mailed = mail_invitation(connection, database.envelope, settings, room, invitation, token)
    return link_of(settings, token) if mailed is None else f"{invitation.email} is mailed a link."
