"""`sluiceway key`: API keys of a workspace."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="The key's id, as `key list` shows it.")]


@app.command()
def create(
    scopes: Annotated[
        list[str], typer.Option("--scope", help="ingest, read, manage or provision; may be repeated.")
    ],
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
    workspace: WorkspaceOption = None,
) -> None:
    """Make a key and print it, and nothing else. It cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.catalog.limits import key_limits
    from sluiceway.catalog.service import Catalog
    from sluiceway.identity.keys import create_key, parse_key
    from sluiceway.runtime.auditing import note_command

    limits = key_limits(rate, burst)
    label = name or " ".join([*(pipelines or []), *scopes])
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with in_workspace(workspace) as (connection, room):
        ids = [Catalog().get(connection, room, slug).id for slug in pipelines] if pipelines else None
        text = create_key(
            connection,
            room,
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
def list_(workspace: WorkspaceOption = None) -> None:
    """List keys, without their secrets."""
    from sluiceway.catalog.service import Catalog
    from sluiceway.identity.keys import list_keys
    from sluiceway.identity.service_accounts import list_accounts

    with in_workspace(workspace) as (connection, room):
        slugs = {p.id: p.slug for p in Catalog().list(connection, room)}
        accounts = {a.id: a.name for a in list_accounts(connection, room)}
        keys = list_keys(connection, room)
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
        if key.last_used_address:
            used += f" from {key.last_used_address}"
        rate = "" if key.rate_per_s is None else f"  {key.rate_per_s:g}/s, burst {key.burst}"
        whose = "" if key.account_id is None else f"  of {accounts.get(key.account_id, key.account_id)}"
        until = key.previous_expires_at
        rotated = "" if until is None or until <= now else f"  old secret until {until:%Y-%m-%d %H:%M}"
        typer.echo(
            f"{key.id}  {state:8}  {','.join(key.scopes):14}  {limited:24}  {used}  {key.name}"
            f"{rate}{whose}{rotated}"
        )


@app.command()
def rotate(
    key_id: KeyId,
    hours: Annotated[
        float, typer.Option(min=0, help="For how long the secret until now goes on beside the new one.")
    ] = 24.0,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="The newest secret was lost unused: replace it, keep the one before."),
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Give a key a new secret and print it, and nothing else. It cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.key_rotation import rotate_key
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        text, found = rotate_key(
            connection, room, key_id, now=datetime.now(UTC), overlap=timedelta(hours=hours), lost=lost
        )
        note_command(
            connection, Action.KEY_ROTATED, target="key", target_id=key_id,
            detail={"name": found.name, "previous_until": found.previous_expires_at, "lost": lost},
        )  # fmt: skip
    typer.echo(text)


@app.command("end-rotation")
def end_rotation(key_id: KeyId, workspace: WorkspaceOption = None) -> None:
    """Refuse the secret before a key's last rotation from now on."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.key_rotation import end_overlap
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = end_overlap(connection, room, key_id)
        note_command(
            connection, Action.KEY_OVERLAP_ENDED, target="key", target_id=key_id, detail={"name": found.name}
        )
    typer.echo(f"Only the newest secret of {key_id} works.")


@app.command()
def revoke(key_id: KeyId, workspace: WorkspaceOption = None) -> None:
    """Revoke a key at once, and the links to dashboards that were made with it."""
    from sluiceway.audit.actions import Action
    from sluiceway.dashboards.links import revoke_links_of
    from sluiceway.identity.keys import revoke_key
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = revoke_key(connection, room, key_id, at=(now := datetime.now(UTC)))
        revoke_links_of(connection, room, f"key:{key_id}", at=now)
        if found.revoked_at == now:
            note_command(connection, Action.KEY_REVOKED, target="key", target_id=key_id)
    typer.echo(f"{key_id} is revoked.")
