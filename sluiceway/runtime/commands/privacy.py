"""`sluiceway user export` and `sluiceway user delete`: a person's own data, for who asks the operator."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from uuid import UUID

    from sluiceway.identity.members import Handover
    from sluiceway.infra.database import Database

Email = Annotated[str, typer.Argument(help="E-mail address.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `sluiceway user`."""
    app.command("export")(export)
    app.command("delete")(delete)


def export(
    email: Email,
    into: Annotated[Path | None, typer.Option(help="A file, made with mode 0600; default: print.")] = None,
) -> None:
    """Write everything that is kept about a person, as JSON."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.privacy import export_person
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.accounts import write_private
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    with command_database(load_settings()) as database:
        person = _person(database, email)
        with database.transaction(Role.APP, workspace_id=1, user_id=str(person)) as connection:
            found = export_person(connection, person, datetime.now(UTC))
            note_command(connection, Action.PERSON_EXPORTED, target="person", target_id=person)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if into is None:
        sys.stdout.write(text)
        return
    write_private(into, text.encode())
    typer.echo(f"Written to {into}.")


def delete(
    email: Email,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a person's account for good, in every workspace.

    What they made stays with the owner who has been in the workspace longest. The audit log keeps what was
    done, without their name and address.
    """
    from sluiceway.audit.actions import Action
    from sluiceway.identity.privacy import delete_person
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_installation, operator
    from sluiceway.runtime.sessions import command_database

    if not yes:
        typer.confirm(f"Delete {email} for good?", abort=True)
    with command_database(load_settings()) as database:
        person = _person(database, email)
        with database.transaction(Role.APP, user_id=str(person)) as connection:
            done = delete_person(
                connection, person, now=datetime.now(UTC), handovers=_handovers(), by=operator()
            )
        if not done.workspaces:
            note_installation(database, Action.PERSON_ERASED, target="person", target_id=person)
    rooms = len(done.workspaces)
    typer.echo(f"The account is deleted; it belonged to {rooms} workspace{'' if rooms == 1 else 's'}.")


def _person(database: "Database", email: str) -> "UUID":
    from sluiceway.identity.service import find_user
    from sluiceway.infra.database import Role
    from sluiceway.kit.errors import NotFound

    with database.transaction(Role.APP) as connection:
        user = find_user(connection, email)
    if user is None:
        raise NotFound(f"Nobody has the address {email}.")
    return user.id


def _handovers() -> "dict[str, Handover]":
    from sluiceway.dashboards.service import hand_over_dashboards
    from sluiceway.identity.leaving import hand_over_keys, hand_over_links

    return {"dashboards": hand_over_dashboards, "links": hand_over_links, "keys": hand_over_keys}
