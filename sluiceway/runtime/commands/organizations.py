"""`sluiceway workspace` and `sluiceway organization`: tenants and their rooms."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.identity.closing import Closed
    from sluiceway.identity.workspaces import Place

app = typer.Typer(help="List, make, rename and delete workspaces.", no_args_is_help=True)
organizations = typer.Typer(help="Make and rename organizations; who owns them.", no_args_is_help=True)

Owner = Annotated[str, typer.Option("--owner", help="Address of an account that is to own it.")]
SlugOption = Annotated[str | None, typer.Option(help="Default: made from the name.")]
NewName = Annotated[str | None, typer.Option(help="Another name.")]
NewSlug = Annotated[str | None, typer.Option(help="Another slug; addresses that name it have to follow.")]
Tenant = Annotated[
    str | None, typer.Option("--organization", help="The organization's slug; default: the first one.")
]


@app.command("list")
def list_() -> None:
    """List all workspaces of all organizations."""
    from sluiceway.identity.workspaces import all_places

    with _installation() as connection:
        found = all_places(connection)
    for place in found:
        if place.workspace_id is not None:
            full = f"{place.organization_slug}/{place.workspace_slug}"
            typer.echo(f"{full:40} {place.members:4} members  {place.workspace_name}")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people read.")],
    owner: Owner,
    slug: SlugOption = None,
    organization: Tenant = None,
) -> None:
    """Make a workspace, owned by somebody who has an account and owns the organization."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import workspaces
    from sluiceway.infra.database import set_identity
    from sluiceway.runtime.auditing import note_command

    with _installation() as connection:
        place = _organization(connection, organization)
        user_id = _account(connection, owner)
        made = workspaces.create_workspace(connection, place.organization_id, name, user_id, slug=slug)
        set_identity(connection, workspace_id=made.id)
        note_command(
            connection, Action.WORKSPACE_CREATED, target="workspace", target_id=made.id,
            after={"slug": made.slug, "name": made.name, "owner": user_id},
        )  # fmt: skip
    typer.echo(f"{place.organization_slug}/{made.slug} is a workspace, owned by {owner}.")


@app.command()
def rename(name: NewName = None, slug: NewSlug = None, workspace: WorkspaceOption = None) -> None:
    """Give a workspace another name or slug."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.workspaces import rename_workspace
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        before, after = rename_workspace(connection, room, name=name, slug=slug)
        note_command(
            connection, Action.WORKSPACE_RENAMED, target="workspace", target_id=room,
            before={"name": before.name, "slug": before.slug},
            after={"name": after.name, "slug": after.slug},
        )  # fmt: skip
    typer.echo(f"{after.slug} is called {after.name}.")


@app.command()
def delete(
    workspace: Annotated[str, typer.Argument(help="Its slug, or organization/workspace.")],
    name: Annotated[
        str | None, typer.Option(help="The workspace's name, to say that it is meant; default: asked for.")
    ] = None,
) -> None:
    """Delete a workspace with all that is in it, for good; its audit log stays.

    Nobody is in it from then on; the worker erases the data within minutes.
    """
    from sluiceway.identity import closing, workspaces

    with in_workspace(workspace) as (connection, room):
        found, held = workspaces.get_workspace(connection, room), closing.contents(connection)
    typer.echo(
        f"{found.name}: {held.pipelines} pipelines with {held.events} events,"
        f" {held.dashboards} dashboards, {held.members} members, {held.keys} keys, {held.links} links,"
        f" {held.rules} rules, {held.dead_letters} dead letters."
    )
    typed: str = name if name is not None else typer.prompt("All of it goes. Type the workspace's name")
    with in_workspace(workspace) as (connection, room):
        closed = closing.delete_workspace(connection, room, typed, last_of_organization=True)
        _tell_deleted(connection, closed)
    typer.echo(f"{closed.workspace.name} is deleted; the worker erases its data.")


def _tell_deleted(connection: "sa.Connection", closed: "Closed") -> None:
    """Its own log has it, and that of a workspace that is still there."""
    from sluiceway.audit.actions import Action
    from sluiceway.infra.database import set_identity
    from sluiceway.runtime.auditing import FIRST_WORKSPACE, note_command

    for room in (closed.workspace.id, closed.neighbour or FIRST_WORKSPACE):
        set_identity(connection, workspace_id=room)
        note_command(
            connection, Action.WORKSPACE_DELETED, target="workspace", target_id=closed.workspace.id,
            before={"slug": closed.workspace.slug, "name": closed.workspace.name}, detail=closed.told(),
        )  # fmt: skip


@organizations.command("list")
def list_organizations() -> None:
    """List organizations and who owns them."""
    from sluiceway.identity.workspaces import all_places, owners

    with _installation() as connection:
        found = {place.organization_id: place for place in all_places(connection)}
        owning = {key: owners(connection, key) for key in found}
    for key, place in found.items():
        who = ", ".join(owner.email for owner in owning[key]) or "nobody"
        typer.echo(f"{place.organization_slug:24} {place.organization_name:32} owned by {who}")


@organizations.command("create")
def create_organization(
    name: Annotated[str, typer.Argument(help="What people read.")],
    owner: Owner,
    slug: SlugOption = None,
    workspace: Annotated[str, typer.Option(help="Name of its first workspace.")] = "Main",
) -> None:
    """Make an organization with its first workspace; the owner has an account already."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import workspaces
    from sluiceway.infra.database import set_identity
    from sluiceway.runtime.auditing import note_command

    with _installation() as connection:
        user_id = _account(connection, owner)
        made, short = workspaces.create_organization(connection, name, user_id, slug=slug)
        room = workspaces.create_workspace(connection, made, workspace, user_id)
        set_identity(connection, workspace_id=room.id)
        note_command(
            connection, Action.ORGANIZATION_CREATED, target="organization", target_id=made,
            after={"slug": short, "owner": user_id, "workspace": room.slug},
        )  # fmt: skip
    typer.echo(f"{short}/{room.slug} is a workspace of a new organization, owned by {owner}.")


@organizations.command("rename")
def rename_organization(name: NewName = None, slug: NewSlug = None, organization: Tenant = None) -> None:
    """Give an organization another name or slug."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import workspaces
    from sluiceway.infra.database import set_identity
    from sluiceway.runtime.auditing import note_command

    with _installation() as connection:
        place = _organization(connection, organization)
        set_identity(connection, workspace_id=place.workspace_id)
        before, after = workspaces.rename_organization(connection, name=name, slug=slug)
        note_command(
            connection, Action.ORGANIZATION_RENAMED, target="organization", target_id=after.id,
            before={"name": before.name, "slug": before.slug},
            after={"name": after.name, "slug": after.slug},
        )  # fmt: skip
    typer.echo(f"{after.slug} is called {after.name}.")


@contextmanager
def _installation() -> "Iterator[sa.Connection]":
    """A transaction as the API's role that acts for no workspace yet."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP) as connection,
    ):
        yield connection


def _organization(connection: "sa.Connection", slug: str | None) -> "Place":
    from sluiceway.identity.workspaces import all_places
    from sluiceway.kit.errors import NotFound

    for place in all_places(connection):
        if slug in (None, place.organization_slug):
            return place
    raise NotFound(f"There is no organization {slug!r}: `sluiceway organization list` shows those there are.")


def _account(connection: "sa.Connection", email: str) -> UUID:
    from sluiceway.identity.service import find_user
    from sluiceway.kit.errors import NotFound

    user = find_user(connection, email)
    if user is None:
        raise NotFound(f"Nobody has an account with the address {email}.")
    return user.id
