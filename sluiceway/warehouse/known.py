"""Which ids silver cannot have: Bloom filters of a pipeline, in the loader's memory, before the known ids.

Random ids are anywhere in the index of known ids, and to look each up costs as much as to insert it. A filter
says of nearly all new ids that they are new; the few others are looked up as ever. There is one a day of
receipt, as in the index: an id that was seen today is not looked for among those of all the other days, whose
pages nothing else keeps in memory.

A filter that misses an id would double an event, so it is only asked while it provably holds every row up to
the pipeline's last seq: seqs are given out gapless and in the order of commits, under the pipeline's lock,
whoever commits (another loader, a retry, a replay). Rows of others are read by their seq.

Not here: the ids themselves (`silver.event_keys`), the decision (`service`).
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse import repository

Connection = psycopg.Connection[Any]
Suspects = list[tuple[date, pl.Series]]
"""Ids that silver may have had, by the day on which it may have had them."""

WORTH_IT = 50_000
"""Ids that must have been looked up before a filter is made: who sends few, or ids that grow, needs none."""

MOST_IDS = 150_000_000  # 375 MB
MOST_ANYWHERE = 5_000_000
_BITS_AN_ID = 20  # about 0.03 % of new ids are looked up in vain, a day: in each of its slots
_HASHES = 7
_BLOCK_BITS = 512  # one cache line: an id costs one miss
_ROOM = 1.05  # times as many as the day has when its filter is made: others may still come late
_LEAST_ROOM = 500_000
_KEPT = timedelta(days=7)  # before the first day that is asked for: other spools may be behind
_NEAR = 50_000  # rows behind, from which on a filter that is being made is good to be used
_FAR = 1_000_000  # rows behind that it would take too long to catch up with under the lock

log = logging.getLogger(__name__)


class Hashed(NamedTuple):
    """Two hashes of ids: one for the block, one for the bits (those of one block agree in the first)."""

    block: npt.NDArray[np.uint64]
    inside: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, ids: pl.Series) -> "Hashed":
        return cls(ids.hash(7).to_numpy(), ids.hash(11).to_numpy())

    def __len__(self) -> int:
        return len(self.block)


class Filter:
    """A blocked Bloom filter of text. `has` may say yes to what was never added, never no to what was."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._blocks = max(1, capacity * _BITS_AN_ID // _BLOCK_BITS)
        self._words = np.zeros(self._blocks * (_BLOCK_BITS // 64), dtype=np.uint64)

    def add(self, ids: Hashed) -> None:
        for words, bits in self._places(ids):
            np.bitwise_or.at(self._words, words, bits)
        self.count += len(ids)

    def has(self, ids: Hashed) -> npt.NDArray[np.bool_]:
        found = np.ones(len(ids), dtype=bool)
        for words, bits in self._places(ids):
            found &= (self._words[words] & bits) != 0
        return found

    def _places(self, ids: Hashed) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
        block = (ids.block % np.uint64(self._blocks)).astype(np.int64) * (_BLOCK_BITS // 64)
        places = []
        for number in range(_HASHES):
            place = ids.inside >> np.uint64(9 * number)
            word = block + ((place >> np.uint64(6)) & np.uint64(7)).astype(np.int64)
            places.append((word, np.uint64(1) << (place & np.uint64(63))))
        return places


class Growing:
    """Filters of ids of which nobody knows how many there will be: when one is full, the next is begun."""

    def __init__(self, capacity: int = _LEAST_ROOM) -> None:
        self._filters = [Filter(capacity)]

    @property
    def count(self) -> int:
        return sum(one.count for one in self._filters)

    @property
    def capacity(self) -> int:
        return sum(one.capacity for one in self._filters)

    def add(self, ids: Hashed) -> None:
        if self._filters[-1].count >= self._filters[-1].capacity:
            self._filters.append(Filter(2 * self._filters[-1].capacity))
        self._filters[-1].add(ids)

    def has(self, ids: Hashed) -> npt.NDArray[np.bool_]:
        found = self._filters[0].has(ids)
        for one in self._filters[1:]:
            found |= one.has(ids)
        return found


@dataclass(slots=True)
class _Known:
    """Every id of `first` and later, of rows up to the seq `upto`, by the day of its key.

    `anywhere`: ids whose row may have another day than its key (a replay does that).
    """

    first: date
    upto: int
    days: dict[date, Growing] = field(default_factory=dict)
    anywhere: Growing = field(default_factory=lambda: Growing(10_000))

    @property
    def too_large(self) -> bool:
        return (
            sum(one.capacity for one in self.days.values()) > 1.5 * MOST_IDS
            or self.anywhere.count > MOST_ANYWHERE
        )

    def add(self, rows: pl.DataFrame) -> None:
        """`rows`: columns `event_id` and `day`; of others' rows also `live`."""
        if "live" in rows.columns:
            elsewhere = rows.filter(~pl.col("live"))
            if len(elsewhere):
                self.anywhere.add(Hashed.of(elsewhere["event_id"]))
                rows = rows.filter("live")
        for (day,), some in rows.group_by("day"):
            self._day(day).add(Hashed.of(some["event_id"]))

    def suspects(self, ids: pl.Series, days: Sequence[date]) -> Suspects:
        hashed = Hashed.of(ids)
        anywhere = self.anywhere.has(hashed) if self.anywhere.count else None
        found = []
        for day in days:
            held = self.days.get(day)
            maybe = held.has(hashed) if held is not None else anywhere
            if maybe is None:
                continue
            if anywhere is not None:
                maybe = maybe | anywhere
            if maybe.any():
                found.append((day, ids.filter(pl.Series(maybe))))
        return found

    def forget_before(self, first: date) -> None:
        if first > self.first:
            self.first = first
            self.days = {day: held for day, held in self.days.items() if day >= first}

    def _day(self, day: date) -> Growing:
        held = self.days.get(day)
        if held is None:
            held = self.days[day] = Growing()
        return held


class KnownBook:
    """The filters of one `Warehouse`. One thread asks; filters are made in threads of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._filters: dict[int, _Known] = {}
        self._asked: dict[int, int] = {}
        self._making: dict[int, threading.Thread] = {}
        self._lock = threading.Lock()  # of the generation and the filters: a late one is not put in
        self._generation = 0

    def forget(self) -> None:
        """Nothing is known any more: the database may be another."""
        with self._lock:
            self._generation += 1
            self._filters.clear()
        self._asked.clear()

    def check(self, pipeline_id: int, last_seq: int) -> None:
        """Every batch tells the pipeline's `last_seq`, read under its lock, also one too small to ask.

        Seqs that were taken back (a restored database) would else have grown past the filter's unseen.
        """
        with self._lock:
            known = self._filters.get(pipeline_id)
            if known is not None and last_seq < known.upto:
                del self._filters[pipeline_id]

    def suspects(
        self,
        connection: Connection,
        pipeline: Pipeline,
        ids: pl.Series,
        days: Sequence[date],
        last_seq: int,
    ) -> Suspects | None:
        """Those of `ids` that silver may have had on each of `days` (in their order); None if there is no
        filter to say.

        Under the pipeline's lock, with the `last_seq` that was read there.
        """
        known = self._filters.get(pipeline.id)
        if known is None or days[0] < known.first:
            return None
        behind = last_seq - known.upto
        if behind < 0 or behind > _FAR or known.too_large:
            # Seqs were taken back (a restored database), others were too quick, or it has grown too large.
            with self._lock:
                self._filters.pop(pipeline.id, None)
            return None
        if behind:
            _catch_up(connection, pipeline, known, last_seq)
        known.forget_before(days[0] - _KEPT)
        return known.suspects(ids, days)

    def looked_up(self, pipeline: Pipeline, ids: int, first: date) -> None:
        """So many ids had to be looked up: a filter is made when it begins to be worth it."""
        asked = self._asked[pipeline.id] = self._asked.get(pipeline.id, 0) + ids
        if asked < WORTH_IT or pipeline.id in self._filters or pipeline.id in self._making:
            return
        self._asked[pipeline.id] = 0
        thread = threading.Thread(
            target=self._make, args=(pipeline, first, self._generation), name="loader-known", daemon=True
        )
        self._making[pipeline.id] = thread
        thread.start()

    def committed(self, pipeline_id: int, rows: pl.DataFrame, first_seq: int, last_seq: int) -> None:
        """`rows` (`event_id`, `received_at`) with these seqs are committed, with keys, by this warehouse."""
        known = self._filters.get(pipeline_id)
        if known is not None and known.upto == first_seq - 1:
            known.add(rows.select("event_id", day=pl.col("received_at").dt.date()))
            known.upto = last_seq

    def close(self) -> None:
        """Make no more filters, and wait until none is being made: the database may go after this."""
        self.forget()
        self.wait()

    def wait(self) -> None:
        """Until no filter is being made."""
        for thread in list(self._making.values()):
            thread.join()

    def _make(self, pipeline: Pipeline, first: date, generation: int) -> None:
        try:
            made = _read(self._database, pipeline, first, lambda: self._generation != generation)
            with self._lock:
                if made is None or self._generation != generation:
                    return
                self._filters[pipeline.id] = made
            log.info("known ids of %s: filters of %d days", pipeline.slug, len(made.days))
        except (psycopg.Error, OSError) as error:
            log.debug("no filter of the known ids of %s: %s", pipeline.slug, error)
        finally:
            self._making.pop(pipeline.id, None)


def _read(database: Database, pipeline: Pipeline, first: date, stopped: Callable[[], bool]) -> _Known | None:
    """Filters of the window, nearly up to date; None if there are too many ids."""
    with database.connect(Role.WRITER, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            repository.act_for(connection, pipeline.workspace_id)
            known = _Known(first, repository.find_last_seq(connection, pipeline.id))
            counts = repository.count_known_ids(connection, pipeline.id, first)
            if (count := sum(counts.values())) > MOST_IDS:
                log.warning("%s has too many known ids for a filter: %d", pipeline.slug, count)
                return None
            for day, count in counts.items():
                held = known.days[day] = Growing(int(count * _ROOM) + _LEAST_ROOM)
                for ids in repository.read_known_ids(connection, pipeline.id, day):
                    if stopped():
                        return None
                    held.add(Hashed.of(ids))
        while not stopped():
            with connection.transaction():
                repository.act_for(connection, pipeline.workspace_id)
                last_seq = repository.find_last_seq(connection, pipeline.id)
                if last_seq - known.upto < _NEAR:
                    return known
                _catch_up(connection, pipeline, known, min(last_seq, known.upto + _FAR))
    return None


def _catch_up(connection: Connection, pipeline: Pipeline, known: _Known, last_seq: int) -> None:
    known.add(repository.find_ids_between(connection, pipeline.silver_table, known.upto, last_seq))
    known.upto = last_seq
