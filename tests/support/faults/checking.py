"""Compares what was acknowledged with bronze, silver, samples, gold and what a consumer was told."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.lake.service import Lake
from tests.support.faults.clients import Consumer, Ledger
from tests.support.loading import check_whole, query

_RECOMPUTED = """
WITH fresh AS (
  SELECT series_id, date_bin(%(width)s, ts, 'epoch'::timestamptz) AS bucket, count(value) AS count,
    sum(value) AS sum, min(value) AS min, max(value) AS max
  FROM silver.samples WHERE pipeline_id = %(pipeline)s GROUP BY 1, 2
), kept AS (
  SELECT series_id, bucket, count, sum, min, max FROM {name} WHERE pipeline_id = %(pipeline)s
)
SELECT count(*) FILTER (WHERE k.bucket IS NULL OR k.count < f.count),
  count(*) FILTER (WHERE f.bucket IS NULL OR k.count > f.count),
  count(*) FILTER (WHERE k.count = f.count
    AND (abs(k.sum - f.sum) > 1e-6 OR k.min <> f.min OR k.max <> f.max))
FROM fresh f FULL JOIN kept k USING (series_id, bucket)
"""
LEVELS = {"1m": "1 minute", "1h": "1 hour", "1d": "1 day"}


@dataclass
class Verdict:
    """Ids by what is wrong with them, in words; empty is right. `acknowledged`: how many were compared."""

    acknowledged: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def compare(self, layer: str, wanted: Iterable[str], allowed: set[str], found: Counter[str]) -> None:
        """`wanted` must be found; nothing but `allowed` may be, and each once."""
        self.lost += [f"{layer} lacks {key}" for key in wanted if key not in found]
        self.doubled += [f"{layer} has {key} {count} times" for key, count in found.items() if count > 1]
        self.wrong += [f"{layer} has {key}, which nobody sent" for key in found if key not in allowed]

    @property
    def fine(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)

    def __str__(self) -> str:
        parts = [f"lost {len(self.lost)}, doubled {len(self.doubled)}, wrong {len(self.wrong)}"]
        return "\n  ".join(parts + self.lost[:5] + self.doubled[:5] + self.wrong[:5])


def check_everything(
    database: Database,
    settings: Settings,
    ledger: Ledger,
    consumer: Consumer | None,
    *,
    pipeline: str = "orders",
    dead: int = 0,
) -> Verdict:
    """Every layer against the ledger. `dead`: how many dead letters there should be.

    Bronze keeps every accepted copy, so there a position must not be twice; everywhere else an id must not.
    """
    verdict = Verdict(len(ledger.acknowledged))
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        found = Catalog().get(connection, 1, pipeline)
    silver = dict(query(database, f'SELECT seq, event_id FROM silver."{found.silver_table}" ORDER BY seq'))
    verdict.compare("silver", ledger.acknowledged, ledger.sent, Counter(silver.values()))
    try:
        check_whole(database, found.silver_table, found.id)
    except AssertionError as error:
        verdict.wrong.append(f"silver does not agree with its own books: {error}")
    _samples(database, found.id, found.silver_table, verdict)
    _gold(database, found.id, verdict)
    _bronze(settings, database, found, ledger, verdict)
    letters = query(database, "SELECT count(*) FROM quality.dead_letters WHERE pipeline_id = :p", p=found.id)
    if letters != [(dead,)]:
        verdict.wrong.append(f"{letters[0][0]} dead letters instead of {dead}")
    if consumer is not None:
        _consumer(consumer, silver, ledger, verdict)
    return verdict


def _samples(database: Database, pipeline_id: int, table: str, verdict: Verdict) -> None:
    """A sample for every measure that is not null, under the row's seq, once."""
    rows = query(
        database,
        "SELECT x.metric, count(*) FILTER (WHERE x.samples = 0), count(*) FILTER (WHERE x.samples > 1)"
        " FROM (SELECT m.metric, r.seq, (SELECT count(*) FROM silver.samples s JOIN silver.series i"
        f"  USING (series_id) WHERE s.pipeline_id = :p AND s.seq = r.seq AND i.metric = m.metric) AS samples"
        f" FROM silver.\"{table}\" r CROSS JOIN LATERAL (VALUES ('amount', r.amount),"
        " ('items', r.items::float8)) AS m (metric, value) WHERE m.value IS NOT NULL) AS x GROUP BY 1",
        p=pipeline_id,
    )
    for metric, missing, more in rows:
        verdict.lost += [f"samples lack {missing} values of {metric}"] * (missing > 0)
        verdict.doubled += [f"samples have {more} values of {metric} twice"] * (more > 0)


def _gold(database: Database, pipeline_id: int, verdict: Verdict) -> None:
    for level, width in LEVELS.items():
        with database.connect(Role.OWNER) as connection:
            connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
            row = connection.execute(
                _RECOMPUTED.format(name=f"gold.samples_{level}"),
                {"width": width, "pipeline": pipeline_id},
            ).fetchone()
        assert row is not None
        less, more, other = row
        verdict.lost += [f"gold {level} counts too few in {less} buckets"] * (less > 0)
        verdict.doubled += [f"gold {level} counts too many in {more} buckets"] * (more > 0)
        verdict.wrong += [f"gold {level} has other sums in {other} buckets"] * (other > 0)


def _bronze(settings: Settings, database: Database, pipeline: Any, ledger: Ledger, verdict: Verdict) -> None:
    lake = Lake(settings)
    places: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for day in lake.days(pipeline):
        for batch in lake.read_bronze(pipeline, day):
            for row in batch.select(["node", "segment", "offset", "index", "payload"]).to_pylist():
                places[f"{row['node']}/{row['segment']}/{row['offset']}/{row['index']}"] += 1
                ids[json.loads(row["payload"]).get("id")] += 1
    verdict.doubled += [f"bronze has {place} {count} times" for place, count in places.items() if count > 1]
    for key, count in ledger.acknowledged.items():
        if ids[key] < count:
            verdict.lost.append(f"bronze has {key} {ids[key]} times, {count} were acknowledged")
    verdict.wrong += [f"bronze has {key}, which nobody sent" for key in ids if key and key not in ledger.sent]


def _consumer(consumer: Consumer, silver: dict[int, str], ledger: Ledger, verdict: Verdict) -> None:
    verdict.lost += [
        f"the consumer was not told of {key}" for s, key in silver.items() if s not in consumer.seen
    ]
    verdict.wrong += [
        f"the consumer was told {key} as {seq}"
        for seq, key in consumer.seen.items()
        if silver.get(seq) != key
    ]
    verdict.wrong += [f"the stream was reset: {reset}" for reset in consumer.resets]
    verdict.doubled += [f"the consumer was told {consumer.twice} rows twice"] * (consumer.twice > 0)
    told = Counter(consumer.seen.values())
    verdict.compare("the consumer", ledger.acknowledged, ledger.sent, told)
