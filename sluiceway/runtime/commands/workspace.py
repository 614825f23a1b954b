"""A transaction in the workspace that a command names with `--workspace`. Nothing else belongs here."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

WorkspaceOption = Annotated[
    str | None, typer.Option("--workspace", help="The workspace's slug; default: the first one.")
]


@contextmanager
def in_workspace(slug: str | None) -> "Iterator[tuple[sa.Connection, int]]":
    """A transaction as the API's role, and the workspace's id. Raises `NotFound`."""
    from sluiceway.identity.service import find_workspace
    from sluiceway.infra.database import Role, set_identity
    from sluiceway.infra.settings import load_settings
    from sluiceway.kit.errors import NotFound
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP) as connection,
    ):
        workspace_id = find_workspace(connection, slug)
        if workspace_id is None:
            raise NotFound(f"There is no workspace {slug!r}, or several are called so.")
        set_identity(connection, workspace_id=workspace_id)
        yield connection, workspace_id
