"""How many bytes each pipeline keeps: in the lake, in silver with its share of the samples, as dead letters.

Asked every hour by the worker. Sizes of tables are PostgreSQL's own, indexes and all. Not here: the lake's
listing, which the caller hands in (it is a higher slice).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from sluiceway.infra.database import Database, Role

BronzeBytes = Callable[[int, str], int]
"""Bytes in the lake of a workspace's pipeline, by its name."""

_SILVER = sa.text("""
SELECT p.workspace_id, p.id, p.slug, p.silver_table,
       (SELECT coalesce(sum(pg_total_relation_size(t.relid)), 0)
        FROM pg_partition_tree(to_regclass(format('silver.%I', p.silver_table))) t)::bigint AS size,
       coalesce((SELECT sum(b.samples) FROM silver.batches b
                 WHERE b.pipeline_id = p.id), 0)::bigint AS samples,
       coalesce((SELECT sum(length(d.payload)) FROM quality.dead_letters d
                 WHERE d.pipeline_id = p.id), 0)::bigint AS letters
FROM app.pipelines p ORDER BY p.id
""")
_SAMPLES = sa.text(
    "SELECT coalesce(sum(pg_total_relation_size(relid)), 0)::bigint"
    " FROM pg_partition_tree('silver.samples'::regclass)"
)
_HYPERTABLE = sa.text("SELECT coalesce(hypertable_size(to_regclass(:name)), 0)::bigint")
_KEEP = sa.text("""
INSERT INTO app.usage_stored AS known
  (workspace_id, pipeline_id, bronze_bytes, silver_bytes, dead_letter_bytes, measured_at)
VALUES (:workspace, :pipeline, :bronze, :silver, :letters, :now)
ON CONFLICT (workspace_id, pipeline_id) DO UPDATE SET bronze_bytes = excluded.bronze_bytes,
  silver_bytes = excluded.silver_bytes, dead_letter_bytes = excluded.dead_letter_bytes,
  measured_at = excluded.measured_at
""")


@dataclass(frozen=True, slots=True)
class Stored:
    workspace_id: int
    pipeline_id: int
    bronze_bytes: int
    silver_bytes: int
    dead_letter_bytes: int


def measure_stored(database: Database, bronze_bytes: BronzeBytes, now: datetime) -> list[Stored]:
    """Measure every pipeline of every workspace and keep what was found."""
    found = [
        Stored(workspace, pipeline, bronze_bytes(workspace, slug), silver, letters)
        for workspace, pipeline, slug, silver, letters in _in_database(database)
    ]
    with database.transaction(Role.WRITER) as connection:
        for one in found:
            connection.execute(
                _KEEP,
                {
                    "workspace": one.workspace_id,
                    "pipeline": one.pipeline_id,
                    "bronze": one.bronze_bytes,
                    "silver": one.silver_bytes,
                    "letters": one.dead_letter_bytes,
                    "now": now,
                },
            )
    return found


def _in_database(database: Database) -> list[tuple[int, int, str, int, int]]:
    """Workspace, pipeline, name, bytes in silver, bytes of dead letters. As the owner: of every workspace."""
    samples: int
    timescale = database.server.timescaledb is not None
    with database.transaction(Role.OWNER) as connection:
        rows = connection.execute(_SILVER).all()
        sizes = {row.id: row.size for row in rows}
        if timescale:
            names = {row.id: f'silver."{row.silver_table}"' for row in rows}
            sizes = {
                pipeline: connection.execute(_HYPERTABLE, {"name": name}).scalar_one()
                for pipeline, name in names.items()
            }
            samples = connection.execute(_HYPERTABLE, {"name": "silver.samples"}).scalar_one()
        else:
            samples = connection.execute(_SAMPLES).scalar_one()
    total = sum(row.samples for row in rows)
    return [
        (
            row.workspace_id,
            row.id,
            row.slug,
            sizes[row.id] + (samples * row.samples // total if total else 0),
            row.letters,
        )
        for row in rows
    ]
