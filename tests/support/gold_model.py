"""The law of gold as a model: what each level must show after any sequence of operations.

Rows above the floor are aggregated from the retained samples; buckets below it stay as they were when the
floor was raised.
"""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

LEVELS = {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}
EPOCH = datetime(2000, 1, 3, tzinfo=UTC)
COLUMNS = "count, sum, min, max, sum_sq, first, first_ts, last, last_ts"


@dataclass(frozen=True, order=True)
class Sample:
    ts: datetime
    seq: int
    series: int
    value: float


def bucket_of(ts: datetime, level: str) -> datetime:
    return ts - (ts - EPOCH) % LEVELS[level]


@dataclass
class Model:
    """One pipeline's samples and what gold must remember of those that were dropped."""

    pipeline: int
    samples: list[Sample] = field(default_factory=list)
    frozen: dict[str, dict[tuple[int, datetime], tuple[Any, ...]]] = field(
        default_factory=lambda: {level: {} for level in LEVELS}
    )
    floor: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    seq: int = 0

    def expected(self, level: str) -> dict[tuple[int, datetime], tuple[Any, ...]]:
        groups: dict[tuple[int, datetime], list[Sample]] = {}
        for sample in sorted(self.samples):
            if sample.ts >= self.floor:
                groups.setdefault((sample.series, bucket_of(sample.ts, level)), []).append(sample)
        found = dict(self.frozen[level])
        for key, rows in groups.items():
            values = [row.value for row in rows]
            found[key] = (
                len(rows), math.fsum(values), min(values), max(values), math.fsum(v * v for v in values),
                rows[0].value, rows[0].ts, rows[-1].value, rows[-1].ts,
            )  # fmt: skip
        return found

    def raise_floor(self, floor: datetime) -> None:
        for level in LEVELS:
            self.frozen[level] = {k: v for k, v in self.expected(level).items() if k[1] < floor}
        self.floor = floor
        self.samples = [sample for sample in self.samples if sample.ts >= floor]

    def check(self, connection: "psycopg.Connection[Any]") -> None:
        """Gold's views, as the connection's role sees them, against the model."""
        for level in LEVELS:
            rows = connection.execute(
                f"SELECT series_id, bucket, {COLUMNS} FROM gold.samples_{level} WHERE pipeline_id = %s",
                (self.pipeline,),
            ).fetchall()
            found = {(row[0], row[1]): tuple(row[2:]) for row in rows}
            assert len(found) == len(rows), f"{level}: a bucket twice"
            assert found == self.expected(level), level


def add(connection: "psycopg.Connection[Any]", model: Model, rows: list[tuple[datetime, int, float]]) -> None:
    """Load samples as the loader does: rows and dirty buckets in one transaction."""
    fresh = []
    for ts, series, value in rows:
        model.seq += 1
        fresh.append(Sample(ts, model.seq, series, value))
    with connection.transaction():
        for sample in fresh:
            connection.execute(
                "INSERT INTO silver.samples (workspace_id, pipeline_id, series_id, ts, value, seq)"
                " VALUES (1, %s, %s, %s, %s, %s)",
                (model.pipeline, sample.series, sample.ts, sample.value, sample.seq),
            )
        mark(connection, model.pipeline, [sample.ts for sample in fresh])
    model.samples += fresh


def replace(
    connection: "psycopg.Connection[Any]",
    model: Model,
    day: datetime,
    rows: list[tuple[datetime, int, float]],
) -> None:
    """What a replay does: a day's samples go and others come, in one transaction."""
    end = day + timedelta(days=1)
    old = [sample for sample in model.samples if day <= sample.ts < end]
    with connection.transaction():
        connection.execute(
            "DELETE FROM silver.samples WHERE pipeline_id = %s AND ts >= %s AND ts < %s",
            (model.pipeline, day, end),
        )
        mark(connection, model.pipeline, [sample.ts for sample in old])
        model.samples = [sample for sample in model.samples if sample not in old]
        add(connection, model, rows)


def mark(connection: "psycopg.Connection[Any]", pipeline: int, times: list[datetime]) -> None:
    for level in LEVELS:
        for bucket in sorted({bucket_of(ts, level) for ts in times}):
            connection.execute(
                "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
                " VALUES (1, %s, %s, %s)",
                (pipeline, level, bucket),
            )
