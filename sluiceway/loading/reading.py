"""Reading what a turn takes of several pipelines in as few passes over the log as their places allow.

Not here: which pipelines and how much (`shares`), what becomes of the records (`preparing`).
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from sluiceway.ingestion.contracts import Form, LogReader, Position, SpoolRecord
from sluiceway.loading.backlog import STRETCH_BYTES, Span

MAX_EVENTS = 100_000
"""Of a turn: what becomes of an event is held in memory until its batch is committed, however small it is."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One pipeline's records of a turn, in order. `end`: nothing of it waits before; `size_bytes` of log."""

    records: list[SpoolRecord]
    end: Position
    size_bytes: int


@dataclass(slots=True)
class _Pass:
    begin: Position
    end: Position
    pipelines: set[int]


def fetch(
    reader: LogReader,
    wanted: Mapping[int, Sequence[Span]],
    max_bytes: int,
    max_events: int = MAX_EVENTS,
    splitting: Container[int] = (),
) -> dict[int, Taken]:
    """The records in each pipeline's spans, about `max_bytes` or `max_events` in all, whichever comes first;
    a pipeline's spans are in order. `splitting`: pipelines whose events are items inside of what was sent.

    A pipeline whose spans held nothing readable has no records but an `end`.
    """
    starts = {pipeline_id: spans[0].begin for pipeline_id, spans in wanted.items()}
    found: dict[int, list[SpoolRecord]] = {pipeline_id: [] for pipeline_id in wanted}
    sizes = dict.fromkeys(wanted, 0)
    budget, events = max_bytes, 0
    for one in _passes(wanted):
        if budget <= 0:
            break
        late = {p: starts[p] for p in one.pipelines if starts[p] > one.begin}
        for record in reader.read(one.begin, budget, pipelines=one.pipelines, end=one.end):
            size = _size(record)
            budget -= size
            pipeline_id = record.pipeline_id
            if pipeline_id in late and record.position < late[pipeline_id]:
                continue  # it is loaded, or being loaded
            found[pipeline_id].append(record)
            sizes[pipeline_id] += size
            events += _items(record) if pipeline_id in splitting else record.events
            if events >= max_events:
                budget = 0
                break
    taken: dict[int, Taken] = {}
    for pipeline_id, own in found.items():
        if budget > 0:
            taken[pipeline_id] = Taken(own, wanted[pipeline_id][-1].end, sizes[pipeline_id])
        elif own:
            taken[pipeline_id] = Taken(own, own[-1].end, sizes[pipeline_id])
    return taken


def _passes(wanted: Mapping[int, Sequence[Span]]) -> list[_Pass]:
    """Spans that lie side by side or overlap are read at once, others by themselves."""
    spans = sorted(
        ((span, pipeline_id) for pipeline_id, own in wanted.items() for span in own),
        key=lambda item: item[0].begin,
    )
    found: list[_Pass] = []
    for span, pipeline_id in spans:
        last = found[-1] if found else None
        if last is not None and _near(last.end, span.begin):
            last.end = max(last.end, span.end)
            last.pipelines.add(pipeline_id)
        else:
            found.append(_Pass(span.begin, span.end, {pipeline_id}))
    return found


def _near(end: Position, begin: Position) -> bool:
    if begin <= end:
        return True
    if begin.segment == end.segment:
        return begin.offset - end.offset < STRETCH_BYTES
    return begin.segment == end.segment + 1 and begin.offset < STRETCH_BYTES


def _items(record: SpoolRecord) -> int:
    """About how many events `source.split` makes of a record, not knowing them: of eight values each."""
    commas = record.body.count(b"%2C" if record.form is Form.FORM else b",")
    return max(record.events, commas // 8)


def _size(record: SpoolRecord) -> int:
    """What it takes of the log, where its segment tells; else its body."""
    if record.end.segment == record.position.segment:
        return record.end.offset - record.position.offset
    return len(record.body)
