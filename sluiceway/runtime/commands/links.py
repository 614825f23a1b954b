"""`sluiceway link`: links that show a dashboard without signing in."""

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace, on_database

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.infra.database import Database
    from sluiceway.queries.contracts import Filter

app = typer.Typer(help="Make, list and revoke links to dashboards.", no_args_is_help=True)


@app.command()
def create(
    dashboard: Annotated[str, typer.Argument(help="The dashboard's name.")],
    name: Annotated[str | None, typer.Option(help="What it is for; default: the dashboard's name.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many days it works; default: for ever.")
    ] = None,
    last: Annotated[
        str | None, typer.Option(help="The only range that is shown (24h, 7d); default: any.")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Added to every widget's query: field=value; may be repeated."),
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Ask for the password that is read from standard input.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a link and print its address, and nothing else. It cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.dashboards.links import create_link
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.queries.contracts import TimeRange
    from sluiceway.runtime.auditing import note_command

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    wanted = [_filter(text) for text in filters or []]
    with (
        on_database(workspace) as (database, room),
        database.transaction(Role.APP, workspace_id=room) as connection,
    ):
        if wanted:
            _check_filters(database, connection, room, dashboard, wanted)
        token, made = create_link(
            connection,
            room,
            dashboard,
            name or dashboard,
            made_by="cli",
            expires_at=expires,
            password=password,
            filters=wanted,
            time=None if last is None else TimeRange(last=last),
        )
        note_command(
            connection, Action.LINK_CREATED, target="dashboard", target_id=dashboard,
            after={
                "link": str(made.id), "name": made.name, "expires_at": expires,
                "password": made.has_password, "filters": filters or [], "time": last,
            },
        )  # fmt: skip
    typer.echo(f"{load_settings().public_url.rstrip('/')}/link/{token}")


@app.command("list")
def list_(
    dashboard: Annotated[str | None, typer.Argument(help="Only this dashboard's; default: all.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """List links, without their addresses."""
    from sluiceway.dashboards.links import list_links

    with in_workspace(workspace) as (connection, room):
        found = list_links(connection, room, dashboard)
    now = datetime.now(UTC)
    for link in found:
        state = "revoked" if link.revoked_at else "active" if link.works_at(now) else "expired"
        used = (
            "never opened"
            if link.last_used_at is None
            else f"opened {link.uses}, last {link.last_used_at:%F %R}"
        )
        lock = "  with a password" if link.has_password else ""
        typer.echo(f"{link.id}  {state:8}  {link.dashboard:24}  {used}  {link.name}{lock}")


@app.command()
def revoke(
    link_id: Annotated[UUID, typer.Argument(help="The link's id, as `link list` shows it.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Revoke a link: it shows nothing within seconds."""
    from sluiceway.audit.actions import Action
    from sluiceway.dashboards.links import revoke_link
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = revoke_link(connection, room, link_id, at=datetime.now(UTC))
        note_command(
            connection, Action.LINK_REVOKED, target="dashboard", target_id=found.dashboard,
            detail={"link": str(link_id), "name": found.name},
        )  # fmt: skip
    typer.echo(f"{link_id} is revoked.")


def _check_filters(
    database: "Database", connection: "sa.Connection", room: int, dashboard: str, filters: "list[Filter]"
) -> None:
    """Raises `InvalidLink` for a filter that some widget's query cannot take."""
    from sluiceway.dashboards.errors import InvalidLink
    from sluiceway.dashboards.link_queries import misfits
    from sluiceway.dashboards.links import link_eyes
    from sluiceway.dashboards.service import get_dashboard
    from sluiceway.infra.clock import SystemClock
    from sluiceway.queries.service import QueryService

    queries = QueryService(database, SystemClock())
    board = get_dashboard(connection, room, dashboard)
    errors = misfits(board, filters, lambda query: queries.check(link_eyes(room), query))
    if errors:
        raise InvalidLink("; ".join(f"{e.field} {e.message}" for e in errors), errors=errors)


def _filter(text: str) -> "Filter":
    """Raises `InvalidLink` for one without an equals sign."""
    from sluiceway.dashboards.errors import InvalidLink
    from sluiceway.queries.contracts import Filter

    field, equals, value = text.partition("=")
    if not (field and equals):
        raise InvalidLink(f"{text!r} is no filter: write field=value.")
    return Filter(field=field, op="eq", value=value)
