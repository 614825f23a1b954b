"""`sluiceway secret`: the secrets with which senders of a pipeline sign."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, enter, in_workspace

app = typer.Typer(help="Add, list and remove senders' secrets of a pipeline.", no_args_is_help=True)

PipelineOption = Annotated[str, typer.Option("--pipeline", help="The pipeline's name.")]


@app.command()
def add(
    pipeline: PipelineOption,
    generate: Annotated[
        bool, typer.Option("--generate", help="Make one and print it, and nothing else.")
    ] = False,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    purpose: Annotated[
        str, typer.Option(help="signature, or challenge for the verify token of a handshake.")
    ] = "signature",
    days: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many days it is valid; default: for ever.")
    ] = None,
    others_end_in_hours: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1_000_000,
            help="After how many hours the others of this purpose end; default: they stay.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Add a secret. It is asked for, or read from standard input: never an argument that others can see."""
    from sluiceway.audit.actions import Action
    from sluiceway.catalog.service import Catalog
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.ingestion.senders.secrets import add_secret, generate_secret
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    if purpose not in ("signature", "challenge"):
        raise typer.BadParameter("should be signature or challenge", param_hint="--purpose")
    given = None if generate else _read()
    now = datetime.now(UTC)
    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP) as connection,
    ):
        found = Catalog().get(connection, enter(connection, workspace), pipeline)
        verify = found.spec.source.verify if purpose == "signature" else None
        value = generate_secret(verify) if given is None else given
        info = add_secret(
            connection,
            database.envelope,
            found,
            value,
            now=now,
            name=name,
            purpose="challenge" if purpose == "challenge" else "signature",
            expires_at=None if days is None else now + timedelta(days=days),
            others_expire_at=None
            if others_end_in_hours is None
            else now + timedelta(hours=others_end_in_hours),
        )
        note_command(
            connection, Action.SECRET_ADDED, target="secret", target_id=info.id,
            after={"pipeline": found.slug, "name": info.name, "purpose": info.purpose,
                   "expires_at": info.expires_at},
        )  # fmt: skip
    typer.echo(value if generate else f"{info.id} is added.")


@app.command("list")
def list_(pipeline: PipelineOption, workspace: WorkspaceOption = None) -> None:
    """List a pipeline's secrets, without their values."""
    from sluiceway.catalog.service import Catalog
    from sluiceway.ingestion.senders.secrets import list_secrets

    with in_workspace(workspace) as (connection, room):
        found = list_secrets(connection, Catalog().get(connection, room, pipeline))
    now = datetime.now(UTC)
    for secret in found:
        expired = secret.expires_at is not None and secret.expires_at <= now
        end = "for ever" if secret.expires_at is None else f"until {secret.expires_at:%Y-%m-%d %H:%M}"
        state = "expired" if expired else "valid"
        typer.echo(f"{secret.id}  {state:7}  {secret.purpose:9}  {end:22}  {secret.name}")


@app.command()
def remove(
    secret_id: Annotated[UUID, typer.Argument(help="The secret's id, as `secret list` shows it.")],
    pipeline: PipelineOption,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove a secret: what is signed with it is refused from now on."""
    from sluiceway.audit.actions import Action
    from sluiceway.catalog.service import Catalog
    from sluiceway.ingestion.senders.secrets import remove_secret
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = Catalog().get(connection, room, pipeline)
        remove_secret(connection, found, secret_id)
        note_command(
            connection, Action.SECRET_REMOVED, target="secret", target_id=secret_id,
            before={"pipeline": found.slug},
        )  # fmt: skip
    typer.echo(f"{secret_id} is removed.")


def _read() -> str:
    if sys.stdin.isatty():
        answer: str = typer.prompt("Secret", hide_input=True)
        return answer
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")
