"""The sensor that tells Dagster what the live path did: one materialisation a pipeline and minute, and the
gate's verdicts under the names of the asset checks.

A minute is reported when it is over. Batches may become visible later than the minute they carry, so the
last minutes are looked at again, and a minute whose count has changed is reported anew with its new sums.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa

from orchestration.defs.silver.checks import SEVERITY, check_name
from orchestration.failing import without_secrets
from orchestration.naming import bronze_key, silver_key
from orchestration.resources import Platform
from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Role

LOOK_BACK = timedelta(minutes=10)
MOST_EVENTS = 400

_BATCHES = sa.text("""
SELECT pipeline_id, date_trunc('minute', loaded_at) AS minute, count(*) AS batches, sum(events) AS events,
       sum(rows) AS rows, sum(samples) AS samples, sum(duplicates) AS duplicates,
       sum(dead_letters) AS dead_letters, sum(size_bytes) AS size_bytes, max(last_seq) AS last_seq,
       extract(epoch FROM max(loaded_at - min_received_at)) AS slowest_s
FROM silver.batches
WHERE origin = 'live' AND loaded_at >= :since AND loaded_at < :until
GROUP BY 1, 2 ORDER BY 2, 1
""")
_RESULTS = sa.text("""
SELECT pipeline_id, minute, expectation, action, evaluated, unexpected, failed_batches
FROM quality.results WHERE origin = 'live' AND minute >= :since AND minute < :until
""")

Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def streaming_sensor(pipelines: Sequence[Pipeline], checks: set[tuple[int, str]]) -> dg.SensorDefinition:
    """`checks` holds (pipeline id, expectation) of every declared asset check."""
    by_id = {p.id: p for p in pipelines}

    @dg.sensor(
        name="streaming_report",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"platform"},
        description="What the live path loaded, a pipeline and minute at a time.",
    )
    @without_secrets()
    def streaming_report(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        platform: Platform = context.resources.platform
        reported = _reported(context.cursor)
        until = datetime.now(UTC).replace(second=0, microsecond=0)
        since = _since(reported, until)
        window = {"since": since, "until": until}
        with platform.database.transaction(Role.WRITER) as connection:
            minutes = connection.execute(_BATCHES, window).all()
            results = connection.execute(_RESULTS, window).all()
        events: list[Event] = []
        for row in minutes:
            stamp = f"{row.pipeline_id}@{row.minute:%Y-%m-%dT%H:%M}"
            pipeline = by_id.get(row.pipeline_id)
            if pipeline is None or reported.get(stamp) == row.batches:
                continue
            fresh: list[Event] = [
                *_materialisations(pipeline, row),
                *_evaluations(pipeline, row, results, checks),
            ]
            if events and len(events) + len(fresh) > MOST_EVENTS:
                break
            events += fresh
            reported[stamp] = row.batches
        if not events:
            return dg.SkipReason("Nothing was loaded since the last minute.")
        return dg.SensorResult(asset_events=events, cursor=_cursor(reported))

    return streaming_report


def _reported(cursor: str | None) -> dict[str, int]:
    return dict(json.loads(cursor)) if cursor else {}


def _since(reported: dict[str, int], until: datetime) -> datetime:
    """Ten minutes before the newest minute already reported; a day back at the very first time."""
    newest = max((stamp.split("@")[1] for stamp in reported), default=None)
    if newest is None:
        return until - timedelta(days=1)
    return datetime.strptime(newest, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC) - LOOK_BACK


def _cursor(reported: dict[str, int]) -> str:
    newest = max(stamp.split("@")[1] for stamp in reported)
    oldest = datetime.strptime(newest, "%Y-%m-%dT%H:%M").replace(tzinfo=UTC) - LOOK_BACK
    kept = {s: n for s, n in reported.items() if s.split("@")[1] >= f"{oldest:%Y-%m-%dT%H:%M}"}
    return json.dumps(kept, sort_keys=True)


def _materialisations(pipeline: Pipeline, row: Any) -> Iterator[dg.AssetMaterialization]:
    partition = f"{row.minute:%Y-%m-%d}"
    common = {"minute": f"{row.minute:%Y-%m-%d %H:%M}Z", "batches": row.batches, "events": row.events}
    yield dg.AssetMaterialization(
        bronze_key(pipeline), partition=partition, metadata={**common, "bytes": int(row.size_bytes)}
    )
    yield dg.AssetMaterialization(
        silver_key(pipeline),
        partition=partition,
        metadata={
            **common,
            "dagster/row_count": int(row.rows),
            "samples": int(row.samples),
            "duplicates": int(row.duplicates),
            "dead letters": int(row.dead_letters),
            "last seq": row.last_seq or 0,
            "slowest batch, receipt to commit (s)": float(row.slowest_s),
        },
    )


def _evaluations(
    pipeline: Pipeline, row: Any, results: Sequence[Any], checks: set[tuple[int, str]]
) -> Iterator[dg.AssetCheckEvaluation]:
    for found in results:
        same = found.pipeline_id == row.pipeline_id and found.minute == row.minute
        if same and (pipeline.id, found.expectation) in checks:
            yield dg.AssetCheckEvaluation(
                asset_key=silver_key(pipeline),
                check_name=check_name(found.expectation),
                passed=found.failed_batches == 0 and found.unexpected == 0,
                severity=SEVERITY[found.action],
                metadata={
                    "minute": f"{found.minute:%Y-%m-%d %H:%M}Z",
                    "evaluated": found.evaluated,
                    "unexpected": found.unexpected,
                    "action": found.action,
                },
            )
