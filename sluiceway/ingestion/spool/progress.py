"""`progress.json` in a spool's folder: what waits to be loaded, as its loader saw it about a second ago.

The loader writes it; whoever decides about back-pressure or shows the lag reads it. It is a view, not a
cursor: nothing is lost with it, and one that is old says that nobody loads. Not here: the cursors, which
the database keeps.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from sluiceway.ingestion.contracts import Position

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits of one pipeline: bytes in the log, and when the oldest was received (None: none)."""

    waiting_bytes: int
    oldest_received_us: int | None


@dataclass(frozen=True, slots=True)
class SpoolProgress:
    """What waits in one spool at `at` (Unix seconds).

    `read_to`: everything before it is loaded. `waiting_bytes`: all that waits. `drained_bytes_per_s`: how
    fast the log is loaded while there is a backlog, smoothed over some ten seconds; 0.0 before one was seen.
    `pipelines`: only those of which something waits, by id. Times of receipt are microseconds since 1970 UTC.

    `scanned_to`: `pipelines` and times are of what lies before it (None: an older loader, that did not tell).
    `unscanned_bytes` of `waiting_bytes` lie behind it: whose they are is not known yet. That is so for the
    first seconds of a loader that finds a large backlog.
    """

    at: float
    node: str
    read_to: Position
    waiting_bytes: int
    oldest_received_us: int | None
    drained_bytes_per_s: float
    pipelines: dict[int, Waiting] = field(default_factory=dict)
    scanned_to: Position | None = None
    unscanned_bytes: int = 0

    def save(self, folder: Path) -> None:
        """Replace the file whole. Raises OSError."""
        scanned = self.scanned_to
        document = {
            "at": round(self.at, 3),
            "node": self.node,
            "read_to": [self.read_to.segment, self.read_to.offset],
            "waiting_bytes": self.waiting_bytes,
            "oldest_received_us": self.oldest_received_us,
            "drained_bytes_per_s": round(self.drained_bytes_per_s, 1),
            "pipelines": {
                str(pipeline_id): {
                    "waiting_bytes": waiting.waiting_bytes,
                    "oldest_received_us": waiting.oldest_received_us,
                }
                for pipeline_id, waiting in self.pipelines.items()
            },
            "scanned_to": None if scanned is None else [scanned.segment, scanned.offset],
            "unscanned_bytes": self.unscanned_bytes,
        }
        fresh = folder / f"{PROGRESS_FILE}.{os.getpid()}"
        fresh.write_bytes(orjson.dumps(document))
        fresh.replace(folder / PROGRESS_FILE)


def load_progress(folder: Path) -> SpoolProgress | None:
    """What the loader wrote last; None if it never did, or the file is not readable."""
    try:
        found = orjson.loads((folder / PROGRESS_FILE).read_bytes())
        return SpoolProgress(
            at=float(found["at"]),
            node=found["node"],
            read_to=Position(*found["read_to"]),
            waiting_bytes=found["waiting_bytes"],
            oldest_received_us=found["oldest_received_us"],
            drained_bytes_per_s=float(found["drained_bytes_per_s"]),
            pipelines={
                int(pipeline_id): Waiting(waiting["waiting_bytes"], waiting["oldest_received_us"])
                for pipeline_id, waiting in found["pipelines"].items()
            },
            scanned_to=Position(*scanned) if (scanned := found.get("scanned_to")) else None,
            unscanned_bytes=int(found.get("unscanned_bytes", 0)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
