"""How far the spools under a data folder are loaded and in the lake, and waiting until all of them are."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.ingestion.spool.belonging import node_of
from sluiceway.lake.writer import Cursor

_LOOK_EVERY_S = 0.25
_START = Position(0, 0)


@dataclass(frozen=True, slots=True)
class SpoolState:
    """One node's spool: what was read of it, and whether something lies behind that."""

    node: str
    bronze_read_to: Position
    to_load: bool
    to_keep: bool

    @property
    def drained(self) -> bool:
        return not (self.to_load or self.to_keep)


def look(database: Database, spools: Path) -> list[SpoolState]:
    """Every spool in the folder `spools` (a folder a node). Raises psycopg's errors and OSError."""
    folders = sorted(path for path in spools.iterdir() if path.is_dir()) if spools.is_dir() else []
    found = []
    with database.connect(Role.WRITER, autocommit=True) as connection:
        for folder in folders:
            kept = Cursor(folder / "bronze.cursor").position
            node = node_of(folder)
            loaded = _loaded(connection, node)
            with SpoolReader(folder) as reader:
                to_load, to_keep = (bool(reader.read(at, 1)) for at in (loaded, kept))
            found.append(SpoolState(node, kept, to_load, to_keep))
    return found


def wait_until_drained(
    database: Database, spools: Path, timeout_s: float, stop: threading.Event | None = None
) -> list[SpoolState]:
    """Look until every spool is loaded and in the lake, or the time is over; returns what was seen last."""
    deadline = time.monotonic() + timeout_s
    stop = stop or threading.Event()
    while True:
        states = look(database, spools)
        left = deadline - time.monotonic()
        if all(state.drained for state in states) or left <= 0:
            return states
        if stop.wait(min(_LOOK_EVERY_S, left)):
            return states


def _loaded(connection: "psycopg.Connection[tuple[int, int]]", node: str) -> Position:
    row = connection.execute(
        'SELECT segment, "offset" FROM app.spool_positions WHERE node = %s', (node,)
    ).fetchone()
    return _START if row is None else Position(*row)
