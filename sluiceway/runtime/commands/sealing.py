"""`sluiceway secrets`: the key that seals what is stored, its versions, and changing it online."""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sluiceway.infra.database import Database
    from sluiceway.infra.rotation import SealedColumn

app = typer.Typer(help="The key that seals stored secrets.", no_args_is_help=True)


@app.command()
def rotate() -> None:
    """Seal every stored secret under a new version of the key, and forget the old one.

    Nothing has to be stopped: processes that run follow within seconds. What was broken off goes on where it
    was when this is called again. Values that cannot be opened are named and left as they are; the old
    version is then kept, and the exit code is 1.
    """
    from sluiceway.infra import rotation
    from sluiceway.infra.keys import load_secret_key
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    with command_database(settings) as database:
        key = load_secret_key(settings)
        version = rotation.begin(database, key)
        typer.echo(f"Version {version} seals new values.")
        done = rotation.reseal(database, key, _say)
        total = done.values
        while not done.unreadable and not rotation.finish(database):
            # Processes that do not know the new version yet may still seal under the old one.
            time.sleep(1)
            done = rotation.reseal(database, key, _say)
            total += done.values
        _note(database, version, total)
    for one in done.unreadable:
        typer.echo(f"Cannot be opened: {one.table}.{one.column} {'/'.join(one.key)}", err=True)
    if done.unreadable:
        typer.echo("The old version is kept for them; remove them and rotate again.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{total} values were sealed again; the old version is gone.")


@app.command("change-key")
def change_key() -> None:
    """Change the installation's own key, when it may be known to others.

    With a key file the new one is made and takes its place. With SLUICEWAY_SECRET_KEY the new key is asked
    for, or read from standard input; set it for every process afterwards. Restart them, then rotate.
    """
    from sluiceway.audit.actions import Action
    from sluiceway.infra.database import Role
    from sluiceway.infra.keys import KEY_FILE, SecretKey, load_secret_key, next_key_file
    from sluiceway.infra.rotation import change_installation_key
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    path = None
    if settings.secret_key is None:
        old = load_secret_key(settings)
        path, new = next_key_file(settings)
    else:
        old, new = SecretKey(settings.secret_key.encode()), SecretKey(_read_key(settings.secret_key))
    with (
        command_database(settings) as database,
        database.transaction(Role.OWNER, workspace_id=1) as connection,
    ):
        versions = change_installation_key(connection, old, new)
        note_command(
            connection, Action.SECRETS_KEY_CHANGED, target="encryption_key", detail={"versions": versions}
        )
    if path is not None:
        path.replace(settings.home / KEY_FILE)
    where = "SLUICEWAY_SECRET_KEY is to be changed everywhere" if path is None else f"{KEY_FILE} is new"
    typer.echo(f"{where}. Restart every process, then: sluiceway secrets rotate")


def _read_key(old: str) -> bytes:
    from sluiceway.infra.keys import LEAST_CHARACTERS

    if sys.stdin.isatty():
        text: str = typer.prompt("New key", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    if len(text) < LEAST_CHARACTERS or text == old:
        raise typer.BadParameter(f"should be another one, of at least {LEAST_CHARACTERS} characters")
    return text.encode()


@app.command()
def status() -> None:
    """Show the versions of the key and how many values each seals."""
    from sluiceway.infra import rotation
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with command_database(load_settings()) as database:
        found = rotation.status(database)
    for one in found:
        since = one.created_at if one.retired_at is None else one.retired_at
        typer.echo(f"{one.version:5}  {one.state:8}  since {since:%Y-%m-%d %H:%M}  {one.values} values")


def _say(place: "SealedColumn", values: int) -> None:
    typer.echo(f"  {place.table}: {values} sealed again")


def _note(database: "Database", version: int, values: int) -> None:
    from sluiceway.audit.actions import Action
    from sluiceway.infra.database import Role
    from sluiceway.runtime.auditing import note_command

    with database.transaction(Role.APP, workspace_id=1) as connection:
        note_command(
            connection,
            Action.SECRETS_ROTATED,
            target="encryption_key",
            target_id=version,
            detail={"values": values, "at": datetime.now(UTC)},
        )
