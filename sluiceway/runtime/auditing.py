"""What commands and the platform itself say to the audit log.

A command acts for whoever runs it: the account of this machine's operating system is all that is known.
"""

import getpass
import os
import socket

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry, Values
from sluiceway.audit.service import record
from sluiceway.infra.database import Database, Role

FIRST_WORKSPACE = 1

PLATFORM = Actor("system", "platform", "Sluiceway")
"""Set-up, the demo, and work that goes on by itself."""


def operator() -> Actor:
    """Whoever runs this command: `<account>@<machine>`."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        name = str(os.getuid())
    return Actor("system", "cli", f"{name}@{socket.gethostname()}")


def note_command(
    connection: sa.Connection,
    action: Action,
    *,
    target: str | None = None,
    target_id: object = None,
    before: Values | None = None,
    after: Values | None = None,
    detail: Values | None = None,
) -> None:
    """Record what a command does, in the transaction that does it (which acts for the workspace)."""
    subject = None if target_id is None else str(target_id)
    record(connection, Entry(action, operator(), target, subject, before, after, detail))


def note_installation(
    database: Database, action: Action, *, target: str, target_id: object, detail: Values | None = None
) -> None:
    """Record what a command did to the installation as a whole: its first workspace is told."""
    with database.transaction(Role.APP, workspace_id=FIRST_WORKSPACE) as connection:
        note_command(connection, action, target=target, target_id=target_id, detail=detail)
