"""Compares what was acknowledged with bronze, silver, samples, gold and a consumer's list.

By `sluiceway.verification`, which is what users have, and by a few questions of its own that only somebody
can ask who knows everything that was sent.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.lake.service import Lake
from sluiceway.verification.contracts import LayerReport
from sluiceway.verification.ledger import Entry, Receipt
from sluiceway.verification.service import verify
from tests.support.faults.clients import Consumer, Ledger
from tests.support.loading import check_whole, query


@dataclass
class Verdict:
    """What is wrong, in words; empty is right. `acknowledged`: how many ids were compared."""

    acknowledged: int
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

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
    lake = Lake(settings)
    receipts = [] if consumer is None else [Receipt(pipeline, i, s) for s, i in consumer.seen.items()]
    entries = [Entry(pipeline, key) for key in ledger.acknowledged]
    report = verify(database, lake, entries, pipelines=[pipeline], consumer=receipts or None)
    for layer in report.pipeline(pipeline).layers.values():
        _take_over(layer, verdict)
    if not report.ok and verdict.fine:
        verdict.wrong.append(f"the verification is not content: {report.as_dict()}")
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        found = Catalog().get(connection, 1, pipeline)
    silver = dict(query(database, f'SELECT seq, event_id FROM silver."{found.silver_table}"'))
    verdict.wrong += [f"silver has {i}, which nobody sent" for i in silver.values() if i not in ledger.sent]
    try:
        check_whole(database, found.silver_table, found.id)
    except AssertionError as error:
        verdict.wrong.append(f"silver does not agree with its own books: {error}")
    _bronze(lake, found, ledger, verdict)
    letters = query(database, "SELECT count(*) FROM quality.dead_letters WHERE pipeline_id = :p", p=found.id)
    if letters != [(dead,)]:
        verdict.wrong.append(f"{letters[0][0]} dead letters instead of {dead}")
    if consumer is not None:
        _consumer(consumer, silver, verdict)
    return verdict


def _take_over(layer: LayerReport, verdict: Verdict) -> None:
    if layer.waiting:
        verdict.lost.append(f"{layer.layer}: {layer.waiting} still wait")
    for kind, target in (
        ("missing", verdict.lost), ("doubled", verdict.doubled), ("wrong", verdict.wrong),
    ):  # fmt: skip
        found = getattr(layer, kind)
        if found:
            named = [f"{layer.layer} {kind} {name}" for name in found.first]
            target += named + [f"{layer.layer} {kind}"] * (found.count - len(named))


def _bronze(lake: Lake, pipeline: Pipeline, ledger: Ledger, verdict: Verdict) -> None:
    """Every acknowledged delivery is in bronze, at a place of its own."""
    places: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for day in lake.days(pipeline):
        for batch in lake.read_bronze(pipeline, day):
            for row in batch.select(["node", "segment", "offset", "index", "payload"]).to_pylist():
                places[f"{row['node']}/{row['segment']}/{row['offset']}/{row['index']}"] += 1
                ids[_id(row["payload"])] += 1
    verdict.doubled += [f"bronze has {place} {count} times" for place, count in places.items() if count > 1]
    for key, count in ledger.acknowledged.items():
        if ids[key] < count:
            verdict.lost.append(f"bronze has {key} {ids[key]} times, {count} were acknowledged")
    verdict.wrong += [f"bronze has {key}, which nobody sent" for key in ids if key and key not in ledger.sent]


def _id(payload: bytes) -> str:
    found: Any = json.loads(payload)
    return found["id"] if isinstance(found, dict) and isinstance(found.get("id"), str) else ""


def _consumer(consumer: Consumer, silver: Mapping[int, str], verdict: Verdict) -> None:
    untold = [key for seq, key in silver.items() if seq not in consumer.seen]
    verdict.lost += [f"the consumer was not told of {key}" for key in untold]
    verdict.wrong += [
        f"the consumer was told {key} as {seq}"
        for seq, key in consumer.seen.items()
        if silver.get(seq) != key
    ]
    verdict.wrong += [f"the stream was reset: {reset}" for reset in consumer.resets]
    verdict.doubled += [f"the consumer was told {consumer.twice} rows twice"] * (consumer.twice > 0)
