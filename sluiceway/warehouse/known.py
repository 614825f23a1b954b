"""Which ids silver cannot have: a Bloom filter a pipeline, in the loader's memory, in front of the known ids.

Random ids are anywhere in the index of known ids, and to look each up costs as much as to insert it. The
filter says of nearly all new ids that they are new; the few others are looked up as ever. A filter that
misses an id would double an event, so it is only asked while it provably holds every row up to the pipeline's
last seq: seqs are given out gapless and in the order of commits, under the pipeline's lock, whoever commits
(another loader, a retry, a replay). Rows of others are read by their seq.

Not here: the ids themselves (`silver.event_keys`), the decision (`service`).
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import psycopg

from sluiceway.catalog.contracts import Pipeline
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse import repository

Connection = psycopg.Connection[Any]

WORTH_IT = 200_000
"""Ids that must have been looked up before a filter is made: who sends few, or ids that grow, needs none."""

MOST_IDS = 200_000_000  # 250 MB
_BITS_AN_ID = 10  # about 1 % of new ids are looked up in vain
_HASHES = 6
_BLOCK_BITS = 512  # one cache line: an id costs one miss
_ROOM = 1.5  # times as many as there are when it is made
_LEAST_ROOM = 1_000_000
_NEAR = 50_000  # rows behind, from which on a filter that is being made is good to be used
_FAR = 1_000_000  # rows behind that it would take too long to catch up with under the lock

log = logging.getLogger(__name__)


class Filter:
    """A blocked Bloom filter of text. `has` may say yes to what was never added, never no to what was."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._blocks = max(1, capacity * _BITS_AN_ID // _BLOCK_BITS)
        self._words = np.zeros(self._blocks * (_BLOCK_BITS // 64), dtype=np.uint64)

    def add(self, ids: pl.Series) -> None:
        for words, bits in self._places(ids):
            np.bitwise_or.at(self._words, words, bits)
        self.count += len(ids)

    def has(self, ids: pl.Series) -> npt.NDArray[np.bool_]:
        found = np.ones(len(ids), dtype=bool)
        for words, bits in self._places(ids):
            found &= (self._words[words] & bits) != 0
        return found

    def _places(self, ids: pl.Series) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
        hashed = ids.hash(7).to_numpy()
        block = (hashed % np.uint64(self._blocks)).astype(np.int64) * (_BLOCK_BITS // 64)
        # Another hash for the bits: those of one block have the first one's remainder in common.
        inside = ids.hash(11).to_numpy()
        places = []
        for number in range(_HASHES):
            place = inside >> np.uint64(9 * number)
            word = block + ((place >> np.uint64(6)) & np.uint64(7)).astype(np.int64)
            places.append((word, np.uint64(1) << (place & np.uint64(63))))
        return places


@dataclass(slots=True)
class _Known:
    """A filter, the window it holds (from `since` on), and the seq up to which it holds every row."""

    ids: Filter
    since: datetime
    upto: int


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
        self, connection: Connection, pipeline: Pipeline, ids: pl.Series, since: datetime, last_seq: int
    ) -> pl.Series | None:
        """Those of `ids` that silver may have had since `since`; None if there is no filter to say.

        Under the pipeline's lock, with the `last_seq` that was read there.
        """
        known = self._filters.get(pipeline.id)
        if known is None or since < known.since:
            return None
        behind = last_seq - known.upto
        if behind < 0 or behind > _FAR or known.ids.count > known.ids.capacity:
            # Seqs were taken back (a restored database), others were too quick, or it is too full.
            with self._lock:
                self._filters.pop(pipeline.id, None)
            return None
        if behind:
            _catch_up(connection, pipeline, known, last_seq)
        return ids.filter(pl.Series(known.ids.has(ids)))

    def looked_up(self, pipeline: Pipeline, ids: int, since: datetime) -> None:
        """So many ids had to be looked up: a filter is made when it begins to be worth it."""
        asked = self._asked[pipeline.id] = self._asked.get(pipeline.id, 0) + ids
        if asked < WORTH_IT or pipeline.id in self._filters or pipeline.id in self._making:
            return
        self._asked[pipeline.id] = 0
        thread = threading.Thread(
            target=self._make, args=(pipeline, since, self._generation), name="loader-known", daemon=True
        )
        self._making[pipeline.id] = thread
        thread.start()

    def committed(self, pipeline_id: int, ids: pl.Series, first_seq: int, last_seq: int) -> None:
        """Rows with these ids and seqs are committed, by this warehouse."""
        known = self._filters.get(pipeline_id)
        if known is not None and known.upto == first_seq - 1:
            known.ids.add(ids)
            known.upto = last_seq

    def close(self) -> None:
        """Make no more filters, and wait until none is being made: the database may go after this."""
        self.forget()
        self.wait()

    def wait(self) -> None:
        """Until no filter is being made."""
        for thread in list(self._making.values()):
            thread.join()

    def _make(self, pipeline: Pipeline, since: datetime, generation: int) -> None:
        try:
            made = _read(self._database, pipeline, since, lambda: self._generation != generation)
            with self._lock:
                if made is None or self._generation != generation:
                    return
                self._filters[pipeline.id] = made
            log.info("known ids of %s: a filter of %d", pipeline.slug, made.ids.count)
        except (psycopg.Error, OSError) as error:
            log.debug("no filter of the known ids of %s: %s", pipeline.slug, error)
        finally:
            self._making.pop(pipeline.id, None)


def _read(
    database: Database, pipeline: Pipeline, since: datetime, stopped: Callable[[], bool]
) -> _Known | None:
    """A filter of the window, nearly up to date; None if there are too many ids."""
    with database.connect(Role.WRITER, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            repository.act_for(connection, pipeline.workspace_id)
            upto = repository.find_last_seq(connection, pipeline.id)
            count = repository.count_known_ids(connection, pipeline.id, since)
            capacity = int(count * _ROOM) + _LEAST_ROOM
            if capacity > MOST_IDS:
                log.warning("%s has too many known ids for a filter: %d", pipeline.slug, count)
                return None
            known = _Known(Filter(capacity), since, upto)
            for ids in repository.read_known_ids(connection, pipeline.id, since):
                if stopped():
                    return None
                known.ids.add(ids)
        while not stopped():
            with connection.transaction():
                repository.act_for(connection, pipeline.workspace_id)
                last_seq = repository.find_last_seq(connection, pipeline.id)
                if last_seq - known.upto < _NEAR:
                    return known
                _catch_up(connection, pipeline, known, min(last_seq, known.upto + _FAR))
    return None


def _catch_up(connection: Connection, pipeline: Pipeline, known: _Known, last_seq: int) -> None:
    known.ids.add(repository.find_ids_between(connection, pipeline.silver_table, known.upto, last_seq))
    known.upto = last_seq
