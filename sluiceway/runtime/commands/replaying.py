"""`replay`: day by day, telling what came of each."""

from collections.abc import Callable
from datetime import date, timedelta

from sluiceway.infra import telemetry
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import InvalidInput


def replay_days(
    settings: Settings,
    database: Database,
    workspace_id: int,
    slug: str,
    first: date,
    last: date,
    echo: Callable[[str], None],
) -> None:
    """Replay the pipeline's days of receipt from `first` to `last`, both included.

    Raises `PipelineNotFound`, or `InvalidInput` if the days are the wrong way round.
    """
    from sluiceway.audit.actions import Action
    from sluiceway.catalog.service import Catalog
    from sluiceway.infra.database import Role
    from sluiceway.lake.service import Lake
    from sluiceway.loading.replay import replay_day
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.container import make_gate

    if last < first:
        raise InvalidInput(f"--to ({last}) lies before --from ({first}).")
    with database.transaction(Role.WRITER, workspace_id=workspace_id) as connection:
        pipeline = Catalog().get(connection, workspace_id, slug)
        detail = {"pipeline": slug, "from": first, "to": last}
        note_command(connection, Action.REPLAY_REQUESTED, target="pipeline", target_id=slug, detail=detail)
    lake, gate = Lake(settings), make_gate(database)
    day = first
    with telemetry.configured(settings, "cli"):
        while day <= last:
            result = replay_day(database, lake, gate, pipeline, day, max_event_bytes=settings.max_event_bytes)
            echo(
                f"{day}: {result.events} events, {result.removed} rows replaced by {result.rows},"
                f" {result.dead_letters} dead letters, gate: {result.verdict}"
            )
            day += timedelta(days=1)
