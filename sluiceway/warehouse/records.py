"""What is kept about loading, and for how long: batch rows and the gate's results by the minute.

Exactly-once rests on spool cursors and event keys, never on old batch rows. Some of them still answer a
question and stay: those of retries (a replay leaves their rows alone), each pipeline's newest, and the ones
that span its whole time; those with a verdict or duplicates to tell stay longer. Not here: data
(`retention`), dead letters.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Database, Role

BATCHES_KEPT = timedelta(days=30)
TROUBLE_KEPT = timedelta(days=400)
RESULTS_KEPT = timedelta(days=90)

# An open-ended query takes its range from the batches of the first and of the last event time.
_BATCHES = sa.text("""
DELETE FROM silver.batches WHERE pipeline_id = :pipeline AND workspace_id = :workspace AND origin <> 'retry'
  AND loaded_at < CASE WHEN verdict = 'pass' AND duplicates = 0
                  THEN CAST(:quiet AS timestamptz) ELSE CAST(:trouble AS timestamptz) END
  AND id NOT IN (
    (SELECT id FROM silver.batches WHERE pipeline_id = :pipeline ORDER BY id DESC LIMIT 1)
    UNION ALL
    (SELECT id FROM silver.batches WHERE pipeline_id = :pipeline AND min_event_time IS NOT NULL
     ORDER BY min_event_time, id LIMIT 1)
    UNION ALL
    (SELECT id FROM silver.batches WHERE pipeline_id = :pipeline AND max_event_time IS NOT NULL
     ORDER BY max_event_time DESC, id DESC LIMIT 1))
""")
_RESULTS = sa.text(
    "DELETE FROM quality.results"
    " WHERE pipeline_id = :pipeline AND workspace_id = :workspace AND minute < :before"
)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows went."""

    batches: int
    results: int


def sweep_records(database: Database, pipelines: Iterable[Pipeline], now: datetime | None = None) -> Swept:
    """Delete what is past its time, each pipeline in a transaction of its own (role WRITER)."""
    at = now or datetime.now(UTC)
    batches = results = 0
    for pipeline in pipelines:
        whose = {"pipeline": pipeline.id, "workspace": pipeline.workspace_id}
        with database.transaction(Role.WRITER, workspace_id=pipeline.workspace_id) as connection:
            lines = {"quiet": at - BATCHES_KEPT, "trouble": at - TROUBLE_KEPT}
            batches += connection.execute(_BATCHES, {**whose, **lines}).rowcount
            results += connection.execute(_RESULTS, {**whose, "before": at - RESULTS_KEPT}).rowcount
    return Swept(batches, results)
