"""How several loaders share the pipelines of the spools they see: who lives, and who works on what.

Each loader says once a second that it lives and which spools it reads. A pipeline of a spool belongs to the
loader that rendezvous hashing picks among those that see the spool; it takes a lease on it when it first has
something to load, and gives it back when it belongs to another. A lease is valid while its holder lives. All
this is for order and efficiency: what makes two loaders at once harmless is the cursor in each transaction
(`docs/adr/0012-fair-loader.md`).
"""

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

import psycopg

from sluiceway.infra.database import Database, Role
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.spool.belonging import LOADERS, lock
from sluiceway.kit.faults import reach
from sluiceway.loading import repository
from sluiceway.loading.claims import SpoolNameTaken
from sluiceway.loading.repository import Connection, LiveLoader

BEAT_S = 1.0
EXPIRY = timedelta(seconds=5)
STUCK_S = 60.0

log = logging.getLogger(__name__)


def owner_of(node: str, pipeline_id: int, loaders: Collection[UUID]) -> UUID | None:
    """Whose a pipeline is, by rendezvous hashing: when a loader comes or goes, only its share moves."""

    def score(loader: UUID) -> bytes:
        text = f"{node}/{pipeline_id}/{loader}"
        return hashlib.blake2b(text.encode(), digest_size=8).digest()

    return max(loaders, key=lambda loader: (score(loader), loader), default=None)


@dataclass(slots=True)
class _Spool:
    """One spool as this loader sees it. `peers`: all that live and read this very folder, itself included.

    `folder` and `lock`: where each of them holds a lock of its own, by which the others see at once that its
    process is gone.
    """

    spool_id: str
    folder: Path | None = None
    lock: IO[bytes] | None = None
    peers: tuple[UUID, ...] = ()
    held: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    owners: dict[int, UUID | None] = field(default_factory=dict)


class Membership:
    """This process among the loaders. `run` belongs to a thread of its own; the rest any thread may call.

    `working` tells whether the work goes on: a process that only beats should lose its share. `now` is for
    tests; the database's clock decides otherwise.
    """

    def __init__(
        self,
        database: Database,
        *,
        loader_id: UUID | None = None,
        expiry: timedelta = EXPIRY,
        working: Callable[[], bool] = lambda: True,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.id = loader_id or uuid4()
        self._database = database
        self._expiry = expiry
        self._working = working
        self._now = now
        self._lock = threading.Lock()
        self._spools: dict[str, _Spool] = {}
        self._connection: Connection | None = None
        self._failing = False

    def attend(self, node: str, spool_id: str, folder: Path | None = None) -> "Leases":
        """This process reads the spool of `node` from now on.

        Raises `SpoolNameTaken` if it reads another folder of that name, and OSError if `folder` cannot be
        used.
        """
        spool = _Spool(spool_id)
        with self._lock:
            known = self._spools.get(node)
        if known is not None and (known.spool_id != spool_id or _place(folder) != known.folder):
            raise SpoolNameTaken(
                f"{folder or 'This folder'} is a spool of node {node}, as is one that is read already: their"
                " cursors would be mixed up. Give one of them another SLUICEWAY_NODE."
            )
        if folder is not None:
            spool.folder = folder / LOADERS
            spool.folder.mkdir(parents=True, exist_ok=True)
            spool.lock = lock(spool.folder, _lock_name(self.id))
        with self._lock:
            self._spools[node] = spool
        return Leases(self, node)

    def leave(self, node: str) -> None:
        """It reads it no more: its leases are free for others at the next beat."""
        with self._lock:
            spool = self._spools.pop(node, None)
        if spool is not None and spool.lock is not None and spool.folder is not None:
            (spool.folder / _lock_name(self.id)).unlink(missing_ok=True)
            spool.lock.close()

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop`, then say good-bye. Raises nothing for what a database can do."""
        while not stop.is_set():
            try:
                if self._working():
                    self.beat()
                self._failing = False
            except psycopg.Error as error:
                if not self._failing:
                    log.warning("other loaders cannot be told that this one lives: %s", describe(error))
                self._failing = True
                self._drop_connection()
            stop.wait(BEAT_S)
        self.close()

    def beat(self) -> None:
        """Say that this loader lives, learn who else does, and what it still holds. Raises psycopg errors."""
        with self._lock:
            spools = {node: spool.spool_id for node, spool in self._spools.items()}
            before = {node: set(spool.held) for node, spool in self._spools.items()}
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(Role.WRITER)
        now = self._now and self._now()
        with self._connection.transaction():
            repository.beat(
                self._connection, self.id, socket.gethostname(), os.getpid(), spools, self._expiry, now
            )
            living = self._bury(self._connection, repository.live(self._connection, now))
            held = repository.held(self._connection, self.id)
            for node in held.keys() - spools.keys():
                repository.give_back(self._connection, node, self.id, list(held[node]))
        self._learn(living, before, held)

    def close(self) -> None:
        """End: others may take over at once. Raises nothing."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._database.connect(Role.WRITER)
            with self._connection.transaction():
                repository.leave(self._connection, self.id)
        except psycopg.Error as error:
            log.info("the leases of this loader will expire by themselves: %s", describe(error))
        self._drop_connection()

    def _bury(self, connection: Connection, living: list[LiveLoader]) -> list[LiveLoader]:
        """Forget those whose process is gone, though they said a moment ago that they live; the others.

        A process that was killed has no lock any more. So its share need not wait until its word expires,
        and one that is started again at once finds its own share free.
        """
        with self._lock:
            folders = {(n, s.spool_id): s.folder for n, s in self._spools.items() if s.folder is not None}
        left: list[LiveLoader] = []
        for loader in living:
            places = [folders[spool] for spool in loader.spools.items() if spool in folders]
            if loader.id == self.id or not any(_is_gone(place, loader.id) for place in places):
                left.append(loader)
                continue
            log.info("the loader on host %s, process %d, is gone: its share is free", loader.host, loader.pid)
            repository.leave(connection, loader.id)
        return left

    def _learn(
        self, living: list[LiveLoader], before: Mapping[str, set[int]], held: Mapping[str, set[int]]
    ) -> None:
        with self._lock:
            for node, spool in self._spools.items():
                peers = tuple(loader.id for loader in living if loader.spools.get(node) == spool.spool_id)
                if peers != spool.peers:
                    spool.peers, spool.owners = peers, {}
                # What was held when the question was put, and is not in the answer, another has taken.
                spool.held -= before.get(node, set()) - held.get(node, set())
                spool.refused = set()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _place(folder: Path | None) -> Path | None:
    return None if folder is None else folder / LOADERS


def _lock_name(loader_id: UUID) -> str:
    return f"{loader_id}.lock"


def _is_gone(folder: Path, loader_id: UUID) -> bool:
    """Whether a loader has let go of its lock without taking it away, as only a process that died does."""
    name = _lock_name(loader_id)
    try:
        if not (folder / name).exists():
            return False
        held = lock(folder, name)
        if held is None:
            return False
        (folder / name).unlink(missing_ok=True)
        held.close()
    except OSError:
        return False
    return True


class Leases:
    """What this process may load of one node's spool. Used by the thread that loads it."""

    def __init__(self, membership: Membership, node: str) -> None:
        self._membership = membership
        self._node = node

    @property
    def shared(self) -> bool:
        """Whether other loaders read this spool, too."""
        spool = self._spool()
        return spool is not None and len(spool.peers) > 1

    @property
    def held(self) -> frozenset[int]:
        with self._membership._lock:
            spool = self._membership._spools.get(self._node)
            return frozenset(spool.held) if spool else frozenset()

    def settle(self, connect: Callable[[], Connection], waiting: Collection[int]) -> frozenset[int]:
        """Give back what belongs to others, take what is ours and free; what is held then.

        Asks the database only where something is to be given or taken. Raises psycopg's errors.
        """
        spool = self._spool()
        if spool is None:
            return frozenset()
        me = self._membership.id
        with self._membership._lock:
            lost = [p for p in sorted(spool.held) if self._owner(spool, p) != me]
            free = [p for p in waiting if p not in spool.held and p not in spool.refused]
            wanted = [p for p in free if self._owner(spool, p) == me]
        if lost or wanted:
            self._exchange(connect(), spool, lost, wanted)
        return self.held

    def _exchange(self, connection: Connection, spool: _Spool, lost: list[int], wanted: list[int]) -> None:
        membership = self._membership
        now = membership._now and membership._now()
        got: set[int] = set()
        with connection.transaction():
            if lost:
                repository.give_back(connection, self._node, membership.id, lost)
            if wanted:
                got = repository.take(connection, self._node, membership.id, wanted, now)
                reach("loader.lease_taken")
        with membership._lock:
            spool.held -= set(lost)
            spool.held |= got
            spool.refused |= set(wanted) - got

    def _owner(self, spool: _Spool, pipeline_id: int) -> UUID | None:
        if pipeline_id not in spool.owners:
            spool.owners[pipeline_id] = owner_of(self._node, pipeline_id, spool.peers)
        return spool.owners[pipeline_id]

    def _spool(self) -> _Spool | None:
        with self._membership._lock:
            return self._membership._spools.get(self._node)
