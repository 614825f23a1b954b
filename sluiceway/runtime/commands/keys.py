"""`sluiceway key`: API keys of the first workspace."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

app = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)


@app.command()
def create(
    scopes: Annotated[list[str], typer.Option("--scope", help="ingest, read or manage; may be repeated.")],
    pipelines: Annotated[
        list[str] | None, typer.Option("--pipeline", help="Only for this pipeline; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many days it is valid; default: for ever.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Events a second it may send, averaged; default: no limit of its own."),
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="Events that may come at once; default: 2 seconds of the rate.")
    ] = None,
) -> None:
    """Make a key and print it, and nothing else. It cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.catalog.limits import key_limits
    from sluiceway.catalog.service import Catalog
    from sluiceway.identity.keys import create_key, parse_key
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    limits = key_limits(rate, burst)
    label = name or " ".join([*(pipelines or []), *scopes])
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        ids = [Catalog().get(connection, 1, slug).id for slug in pipelines] if pipelines else None
        text = create_key(
            connection,
            1,
            label,
            scopes,
            pipeline_ids=ids,
            expires_at=expires,
            rate_per_s=limits.events_per_s if limits else None,
            burst=limits.burst if limits else None,
        )
        note_command(
            connection, Action.KEY_CREATED, target="key", target_id=parse_key(text)[0],
            after={"name": label, "scopes": scopes, "pipelines": pipelines, "expires_at": expires},
        )  # fmt: skip
    typer.echo(text)


@app.command("list")
def list_() -> None:
    """List keys, without their secrets."""
    from sluiceway.catalog.service import Catalog
    from sluiceway.identity.keys import list_keys
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        slugs = {p.id: p.slug for p in Catalog().list(connection, 1)}
        keys = list_keys(connection, 1)
    now = datetime.now(UTC)
    for key in keys:
        limited = (
            "all" if key.pipeline_ids is None else ",".join(slugs.get(i, str(i)) for i in key.pipeline_ids)
        )
        if key.revoked_at is not None:
            state = "revoked"
        elif key.expires_at is not None and key.expires_at <= now:
            state = "expired"
        else:
            state = "valid"
        used = "never used" if key.last_used_at is None else f"used {key.last_used_at:%Y-%m-%d %H:%M}"
        rate = "" if key.rate_per_s is None else f"  {key.rate_per_s:g}/s, burst {key.burst}"
        typer.echo(f"{key.id}  {state:8}  {','.join(key.scopes):14}  {limited:24}  {used}  {key.name}{rate}")


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, as `key list` shows it.")]) -> None:
    """Revoke a key at once."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.keys import revoke_key
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    with (
        command_database(load_settings()) as database,
        database.transaction(Role.APP, workspace_id=1) as connection,
    ):
        found = revoke_key(connection, 1, key_id, at=(now := datetime.now(UTC)))
        if found.revoked_at == now:
            note_command(connection, Action.KEY_REVOKED, target="key", target_id=key_id)
    typer.echo(f"{key_id} is revoked.")
