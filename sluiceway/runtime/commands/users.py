"""`sluiceway user`: people of the first workspace."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.identity.contracts import User

app = typer.Typer(help="Make and list people, set passwords.", no_args_is_help=True)

Email = Annotated[str, typer.Argument(help="E-mail address.")]
FromInput = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\n")
    found: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return found


@app.command()
def create(
    email: Email,
    name: Annotated[str | None, typer.Option(help="Full name; default: what stands before the @.")] = None,
    role: Annotated[str, typer.Option(help="owner, admin, editor, analyst or viewer.")] = "viewer",
    password_stdin: FromInput = False,
) -> None:
    """Make a person and their membership of the first workspace."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.service import create_user
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    password = _password(password_stdin)
    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        user = create_user(connection, email, name or email.split("@", 1)[0], password, role)
        after = {"email": user.email, "role": role}
        note_command(connection, Action.PERSON_CREATED, target="user", target_id=user.id, after=after)
    typer.echo(f"{user.email} can sign in as {role}.")


@app.command("list")
def list_() -> None:
    """List the people of the first workspace."""
    from sluiceway.identity.people import list_members
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        members = list_members(connection, 1)
    for user, role in members:
        state = "disabled" if user.disabled_at is not None else "active"
        typer.echo(f"{user.email:40} {role:8} {state:8} {user.name}")


@app.command()
def password(email: Email, password_stdin: FromInput = False) -> None:
    """Set a person's password; their sessions end."""
    wanted = _password(password_stdin)
    with _person(email) as (connection, user):
        from sluiceway.audit.actions import Action
        from sluiceway.identity.own_password import change
        from sluiceway.identity.sessions import end_own
        from sluiceway.runtime.auditing import note_command

        change(connection, user.id, wanted, about=(user.email, user.name), now=datetime.now(UTC))
        end_own(connection, user.id)
        note_command(connection, Action.PERSON_PASSWORD_SET, target="user", target_id=user.id)
    typer.echo(f"{user.email} has a new password.")


@app.command()
def disable(email: Email) -> None:
    """Lock a person out at once; what they made stays."""
    with _person(email) as (connection, user):
        from sluiceway.audit.actions import Action
        from sluiceway.identity.people import end_sessions, set_disabled
        from sluiceway.runtime.auditing import note_command

        set_disabled(connection, user.id, datetime.now(UTC))
        end_sessions(connection, 1, user.id)
        note_command(connection, Action.PERSON_DISABLED, target="user", target_id=user.id)
    typer.echo(f"{user.email} can no longer sign in.")


@app.command()
def enable(email: Email) -> None:
    """Let a person in again."""
    with _person(email) as (connection, user):
        from sluiceway.audit.actions import Action
        from sluiceway.identity.people import set_disabled
        from sluiceway.runtime.auditing import note_command

        set_disabled(connection, user.id, None)
        note_command(connection, Action.PERSON_ENABLED, target="user", target_id=user.id)
    typer.echo(f"{user.email} can sign in again.")


@contextmanager
def _person(email: str) -> "Iterator[tuple[sa.Connection, User]]":
    """A transaction of the first workspace, and the person. Raises `NotFound`."""
    from sluiceway.identity.service import find_user
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.kit.errors import NotFound
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        user = find_user(connection, email)
        if user is None:
            raise NotFound(f"Nobody has the address {email}: `sluiceway user list` shows who there is.")
        yield connection, user
