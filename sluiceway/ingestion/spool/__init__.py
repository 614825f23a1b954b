"""The node's durable log: one writer, several readers in other processes, segments in one folder.

This is its face; the modules inside are its own. How it is built and why: `docs/adr/0002-spool.md`.
"""

from dataclasses import dataclass
from pathlib import Path

from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool.reader import SpoolReader
from sluiceway.ingestion.spool.segments import trim
from sluiceway.ingestion.spool.writer import (
    DEFAULT_MAX_BYTES,
    DEFAULT_RESERVE_BYTES,
    DEFAULT_SEGMENT_BYTES,
    SpoolWriter,
    WriterStats,
)

__all__ = ["Spool", "SpoolReader", "SpoolWriter", "WriterStats", "open_spool", "trim"]


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder as an `EventLog`. Sizes in bytes."""

    folder: Path
    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    max_bytes: int = DEFAULT_MAX_BYTES
    reserve_bytes: int = DEFAULT_RESERVE_BYTES

    def writer(self) -> SpoolWriter:
        """The one writer. Raises `SpoolLocked`."""
        return SpoolWriter(
            self.folder,
            segment_bytes=self.segment_bytes,
            max_bytes=self.max_bytes,
            reserve_bytes=self.reserve_bytes,
        )

    def reader(self) -> SpoolReader:
        return SpoolReader(self.folder)

    def trim(self, before: Position) -> int:
        return trim(self.folder, before)


def open_spool(settings: Settings) -> Spool:
    """This node's spool as its settings say."""
    return Spool(
        settings.spool_dir,
        segment_bytes=settings.spool_segment_bytes,
        max_bytes=settings.spool_max_bytes,
        reserve_bytes=settings.disk_reserve_bytes,
    )
