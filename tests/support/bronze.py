"""Spool records, pipelines and a reader over a list, for tests of the lake."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from sluiceway.catalog.contracts import Pipeline, PipelineSpec
from sluiceway.ingestion.contracts import Form, Position, SpoolRecord
from sluiceway.lake.service import Lake

DAY = date(2026, 3, 14)
DAY_US = int(datetime(2026, 3, 14, 12, tzinfo=UTC).timestamp() * 1e6)


def pipeline(id_: int = 1, slug: str = "orders", **spec: Any) -> Pipeline:
    document = {"name": slug, "fields": [{"name": "amount", "type": "number", "role": "measure"}], **spec}
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Pipeline(
        id=id_,
        workspace_id=1,
        slug=slug,
        name=slug,
        version=1,
        state="active",
        silver_table=slug,
        spec=PipelineSpec.model_validate(document),
        created_at=now,
        updated_at=now,
    )


def record(
    number: int, *, pipeline_id: int = 1, received_us: int = DAY_US, per_segment: int = 5
) -> SpoolRecord:
    """The `number`th record (from 0) of a spool: two events in NDJSON, a hundred bytes each record."""

    def at(index: int) -> Position:
        return Position(1 + index // per_segment, index % per_segment * 100)

    # The last record of a segment ends where it ends: the next one begins at 0 of the next segment.
    here = at(number)
    end = Position(here.segment, here.offset + 100)
    body = b'{"n": %d}\n{"n": %d.5}\n' % (number, number)
    return SpoolRecord(here, end, 1, pipeline_id, received_us + number, Form.NDJSON, {"x-a": "b"}, 2, body)


class ListReader:
    """Reads from a list as the spool's reader reads from its folder."""

    def __init__(self, records: Sequence[SpoolRecord]) -> None:
        self.records = list(records)

    def begun(self) -> bool:
        return bool(self.records)

    def read(self, start: Position, max_bytes: int) -> list[SpoolRecord]:
        found: list[SpoolRecord] = []
        for item in self.records:
            if item.position >= start and sum(len(r.body) for r in found) < max_bytes:
                found.append(item)
        return found


def payloads(lake: Lake, of: Pipeline, day: date = DAY) -> list[bytes]:
    return [row for batch in lake.read_bronze(of, day) for row in batch["payload"].to_pylist()]


def expected(records: Sequence[SpoolRecord]) -> list[bytes]:
    return [line for item in records for line in item.body.strip().split(b"\n")]
