"""A transaction, or the database, for the workspace that a command names with `--workspace`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.infra.database import Database

WorkspaceOption = Annotated[
    str | None,
    typer.Option(
        "--workspace", help="The workspace's slug, or organization/workspace; default: the first one."
    ),
]


def enter(connection: "sa.Connection", slug: str | None) -> int:
    """Have the transaction act for the workspace, and give its id. Raises `NotFound`."""
    from sluiceway.identity.service import find_workspace
    from sluiceway.infra.database import set_identity
    from sluiceway.kit.errors import NotFound

    workspace_id = find_workspace(connection, slug)
    if workspace_id is None:
        raise NotFound(
            f"There is no workspace {slug!r}, or several are called so: write organization/{slug}."
        )
    set_identity(connection, workspace_id=workspace_id)
    return workspace_id


@contextmanager
def in_workspace(slug: str | None) -> "Iterator[tuple[sa.Connection, int]]":
    """A transaction as the API's role, and the workspace's id. Raises `NotFound`."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP) as connection,
    ):
        yield connection, enter(connection, slug)


@contextmanager
def on_database(slug: str | None) -> "Iterator[tuple[Database, int]]":
    """The installation's database, for what makes transactions of its own, and the workspace's id.

    Raises `NotFound`.
    """
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with command_database(load_settings()) as database:
        with database.transaction(Role.APP) as connection:
            workspace_id = enter(connection, slug)
        yield database, workspace_id
