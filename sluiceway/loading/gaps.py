"""Telling, when a loader begins, that its database and its log do not fit: one of them is from another time.

A database that was restored, or a standby that took over, may be older than what has been trimmed since; a
disk may be a copy. Nothing is mended here: a person is told what to do. Not here: cursors (`service`).
"""

import logging
from datetime import UTC, datetime

from sluiceway.ingestion.contracts import START, LogReader
from sluiceway.warehouse.contracts import Progress

log = logging.getLogger(__name__)


def tell_gap(node: str, progress: Progress, reader: LogReader) -> None:
    """Log an error if what the database says is loaded ends before, or beyond, what the log holds."""
    bounds, read_to = reader.bounds(), progress.read_to
    if bounds is None or read_to is None or read_to == START:
        return
    first, newest = bounds
    if read_to.segment < first:
        log.error(
            "node %s: the database has its log up to segment %d (told on %s), but the first that is left is"
            " %d (received from %s on): the database is older than the log. What was received in between"
            " is in bronze only: replay the days from %s to %s of every pipeline (`sluiceway replay`),"
            " from earlier on if a backlog was waiting then",
            node, read_to.segment, _day(progress.told_at), first, _first_day(reader),
            _day(progress.told_at), _first_day(reader),
        )  # fmt: skip
    elif read_to.segment > newest:
        log.error(
            "node %s: the database has its log up to segment %d, but the newest of the folder is %d: it is an"
            " older copy, or another node's. What is received here counts as loaded until the numbers"
            " are beyond: give the folder another SLUICEWAY_NODE",
            node, read_to.segment, newest,
        )  # fmt: skip


def _first_day(reader: LogReader) -> str:
    extents = reader.scan(START, 1).extents
    return _day(datetime.fromtimestamp(extents[0].oldest_us / 1e6, UTC) if extents else None)


def _day(at: datetime | None) -> str:
    return "now" if at is None else at.astimezone(UTC).date().isoformat()
