"""`sluiceway secrets`: the key that seals what is stored, its versions, and changing it online."""

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
