"""Which leaf partitions exist, so that DDL is asked for only by the first batch of a month."""

from collections.abc import Iterable
from datetime import datetime

from sluiceway.infra.database import Database
from sluiceway.warehouse.schema import EVENT_KEYS, SAMPLES, ensure_partitions, partition_of


class Leaves:
    """Leaves known to exist. On TimescaleDB only event keys have any."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    @property
    def direct(self) -> bool:
        """Whether COPY goes straight into leaves."""
        return self._database.server.timescaledb is None

    def ensure(self, table: str, event_times: Iterable[datetime], received: Iterable[datetime]) -> None:
        """Make what a silver table, samples and event keys lack, in a transaction of its own.

        `event_times` need hold but one moment of each month, `received` one of each ISO week.
        """
        times = list(event_times) if self.direct else []
        for parent, moments, span in (
            (table, times, "month"),
            (SAMPLES, times, "month"),
            (EVENT_KEYS, list(received), "week"),
        ):
            missing = [at for at in moments if partition_of(parent, at, span).name not in self._known]  # type: ignore[arg-type]
            if missing:
                self._known.update(ensure_partitions(self._database, parent, missing, span))  # type: ignore[arg-type]

    def forget(self) -> None:
        """Retention dropped something, or the database was put back: ask again."""
        self._known.clear()
