"""`sluiceway session`: where people are signed in, and ending it."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

app = typer.Typer(help="List and end people's sign-ins.", no_args_is_help=True)

Of = Annotated[str | None, typer.Option("--user", help="E-mail address of one member.")]


@app.command("list")
def list_(user: Of = None, workspace: WorkspaceOption = None) -> None:
    """List the sessions of a workspace, the one last begun first."""
    from sluiceway.identity.members import find_member
    from sluiceway.identity.sessions import workspace_sessions

    with in_workspace(workspace) as (connection, room):
        of = None if user is None else find_member(connection, room, user).user.id
        found = workspace_sessions(connection, room, now=datetime.now(UTC), limit=1000, user_id=of)
    for session in found:
        kind = "remembered" if session.persistent else "-"
        typer.echo(
            f"{session.id}  {session.email:32} {session.method:10} {kind:10} seen"
            f" {session.last_seen_at:%Y-%m-%d %H:%M}  {session.address:20} {session.user_agent[:60]}"
        )


@app.command()
def end(
    session_id: Annotated[UUID | None, typer.Argument(help="As `session list` shows it.")] = None,
    user: Of = None,
    workspace: WorkspaceOption = None,
) -> None:
    """End one session, or all of one member's in every workspace; it holds at once."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.members import find_member
    from sluiceway.identity.sessions import end_in_workspace, end_own
    from sluiceway.kit.errors import NotFound
    from sluiceway.runtime.auditing import note_command

    if (session_id is None) == (user is None):
        raise typer.BadParameter("give a session's id, or --user")
    with in_workspace(workspace) as (connection, room):
        if session_id is not None:
            if end_in_workspace(connection, room, session_id) is None:
                raise NotFound("There is no such session in this workspace.")
            count = 1
        else:
            count = len(end_own(connection, find_member(connection, room, user or "").user.id))
        note_command(
            connection, Action.SESSION_ENDED, target="session", target_id=session_id,
            detail={"sessions_ended": count},
        )  # fmt: skip
    typer.echo(f"{count} session{'' if count == 1 else 's'} ended.")
