"""`sluiceway usage` and `sluiceway quota`: what a workspace uses, and its limits, also the operator's own."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sluiceway.infra.database import Database
    from sluiceway.usage.contracts import Measure, Quota

app = typer.Typer(help="Limits of a workspace: soft ones are told, hard ones hold.", no_args_is_help=True)

Workspace = Annotated[
    str | None, typer.Option("--workspace", help="The workspace's short name; default: the first one.")
]
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def usage(
    workspace: Workspace = None,
    month: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m"], help="Such as 2026-11; default: this one.")
    ] = None,
) -> None:
    """Show what a workspace uses this month, by pipeline, and its limits."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database
    from sluiceway.usage import service
    from sluiceway.usage.contracts import Measure, spoken

    with command_database(load_settings()) as database:
        room = _room(database, workspace)
        with database.transaction(Role.APP, workspace_id=room) as connection:
            found = service.usage(
                connection, room, datetime.now(UTC), None if month is None else month.date()
            )
    typer.echo(f"{found.month:%Y-%m}")
    for used in found.measures:
        quota = used.quota
        limits = ", ".join(_limits(quota)) or "no limit"
        state = {"ok": "", "soft": "  past the soft limit", "hard": "  at the limit"}[used.state]
        more = f", {found.invited} invited" if quota.measure is Measure.SEATS and found.invited else ""
        typer.echo(
            f"{quota.measure.value:15} {spoken(quota.measure, used.used):>20}{more}  ({limits}){state}"
        )
    for one in found.pipelines:
        typer.echo(
            f"  {one.pipeline:30} {one.events:>14,} events {one.ingested_bytes:>16,} bytes in"
            f" {one.stored_bytes:>16,} stored"
        )


@app.command("list")
def list_(workspace: Workspace = None) -> None:
    """Show the limits of a workspace."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database
    from sluiceway.usage import service

    with command_database(load_settings()) as database:
        room = _room(database, workspace)
        with database.transaction(Role.APP, workspace_id=room) as connection:
            found = service.quotas(connection, room)
    for quota in found:
        typer.echo(f"{quota.measure.value:15} {', '.join(_limits(quota)) or 'no limit'}")


@app.command("set")
def set_(
    measure: Annotated[str, typer.Argument(help="events, ingested_bytes, stored_bytes or seats.")],
    soft: Annotated[
        str | None, typer.Option(help="Past it people are told; 10M, 2.5GB, or none. Default: as it is.")
    ] = None,
    hard: Annotated[
        str | None, typer.Option(help="At it nothing more is taken; as --soft. Default: as it is.")
    ] = None,
    ceiling: Annotated[
        str | None,
        typer.Option(help="The most that the workspace can allow itself; as --soft. Default: as it is."),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Set a limit of a workspace; it holds within seconds."""
    from sluiceway.audit.actions import Action
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database
    from sluiceway.usage import service
    from sluiceway.usage.contracts import Quota

    wanted = _measure(measure)
    given = {
        name: _amount(text, name)
        for name, text in (("soft", soft), ("hard", hard), ("ceiling", ceiling))
        if text is not None
    }
    with command_database(load_settings()) as database:
        room = _room(database, workspace)
        with database.transaction(Role.APP, workspace_id=room) as connection:
            before = next(q for q in service.quotas(connection, room) if q.measure == wanted)
            after = Quota(
                wanted,
                given.get("soft", before.soft),
                given.get("hard", before.hard),
                given.get("ceiling", before.ceiling),
            )
            service.set_quotas(connection, room, [after], by="cli", operator=True)
            note_command(
                connection,
                Action.QUOTA_CHANGED,
                target="quota",
                target_id=wanted.value,
                before=_plain(before),
                after=_plain(after),
            )
    typer.echo(f"{wanted.value}: {', '.join(_limits(after)) or 'no limit'}")


def _measure(text: str) -> "Measure":
    from sluiceway.usage.contracts import Measure

    try:
        return Measure(text)
    except ValueError:
        raise typer.BadParameter(f"should be one of {', '.join(Measure)}", param_hint="MEASURE") from None


def _amount(text: str, name: str) -> int | None:
    """A number with a factor of 1000, or None for `none`."""
    if text == "none":
        return None
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter("should be a number such as 10M or 2.5GB, or none", param_hint=f"--{name}")
    return int(float(match[1]) * _FACTORS[match[2].lower()])


def _limits(quota: "Quota") -> list[str]:
    from sluiceway.usage.contracts import spoken

    named = (("soft", quota.soft), ("hard", quota.hard), ("ceiling", quota.ceiling))
    return [f"{name} {spoken(quota.measure, limit)}" for name, limit in named if limit is not None]


def _plain(quota: "Quota") -> dict[str, object]:
    return {"soft": quota.soft, "hard": quota.hard, "ceiling": quota.ceiling}


def _room(database: "Database", slug: str | None) -> int:
    """The workspace of this short name, the first one for None. Raises `NotFound`."""
    from sluiceway.identity.service import find_workspace
    from sluiceway.infra.database import Role
    from sluiceway.kit.errors import NotFound

    with database.transaction(Role.APP) as connection:
        found = find_workspace(connection, slug)
    if found is None:
        raise NotFound(f"There is no workspace {slug!r}, or several have this short name.")
    return found
