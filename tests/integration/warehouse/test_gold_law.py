"""The law: after any order of loads, late events, replays, refreshes and retention, gold is a full recompute
over what silver retains, and what is older does not change. Random sequences, on both backends."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.gold import refresh_aggregate, refresh_dirty, set_floor
from sluiceway.warehouse.schema import SAMPLES, drop_partitions_before, ensure_partitions
from tests.integration.warehouse.conftest import beginning
from tests.support.gold_model import Model, add, mark, replace

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
# Two days of January, two of February, one of March: retention drops a month.
DAYS = [FIRST_DAY + timedelta(days=n) for n in (3, 30, 31, 45, 62)]

samples = st.lists(
    st.tuples(
        st.sampled_from(DAYS),
        st.sampled_from([0, 59, 60, 61, 3599, 3600, 43200, 86399]),
        st.integers(1, 3),
        st.integers(-1000, 1000).map(float),
    ),
    min_size=1,
    max_size=6,
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), samples),
        st.tuples(st.just("replay"), st.sampled_from(DAYS), samples),
        st.tuples(st.just("refresh")),
        st.tuples(st.just("refresh_part"), st.sampled_from(["1m", "1h", "1d"]), st.sampled_from(DAYS)),
        st.tuples(st.just("force"), st.sampled_from(["1m", "1h", "1d"])),
        st.tuples(st.just("retain"), st.integers(1, 2)),
        st.tuples(st.just("stale_mark"), st.sampled_from(DAYS)),
    ),
    min_size=1,
    max_size=10,
)


class Run:
    """One sequence on one database; `shift` keeps sequences that share a database apart in time."""

    def __init__(self, database: Database, pipeline: int, shift: timedelta) -> None:
        self.database = database
        self.model = Model(pipeline)
        self.shift = shift

    def rows(self, drawn: list[tuple[datetime, int, int, float]]) -> list[tuple[datetime, int, float]]:
        found = [(day + self.shift + timedelta(seconds=s), series, v) for day, s, series, v in drawn]
        return [row for row in found if row[0] >= self.model.floor]

    def do(self, operation: tuple[Any, ...]) -> None:
        getattr(self, operation[0])(*operation[1:])

    def owner(self, work: Callable[["psycopg.Connection[Any]"], None]) -> None:
        connection = self.database.connect(Role.OWNER, autocommit=True)
        try:
            work(connection)
        finally:
            connection.close()

    def add(self, drawn: list[Any]) -> None:
        self.owner(lambda c: add(c, self.model, self.rows(drawn)))

    def replay(self, day: datetime, drawn: list[Any]) -> None:
        begin = day + self.shift
        if begin >= self.model.floor:
            rows = [row for row in self.rows(drawn) if begin <= row[0] < begin + timedelta(days=1)]
            self.owner(lambda c: replace(c, self.model, begin, rows))

    def refresh(self) -> None:
        refresh_dirty(self.database)

    def refresh_part(self, level: str, day: datetime) -> None:
        begin = day + self.shift
        refresh_aggregate(self.database, f"gold.samples_{level}", begin, begin + timedelta(days=1))

    def force(self, level: str) -> None:
        refresh_aggregate(self.database, f"gold.samples_{level}", force=True)

    def retain(self, months: int) -> None:
        before = FIRST_DAY + self.shift + timedelta(days=31 if months == 1 else 59)
        if before > self.model.floor:
            set_floor(self.database, "silver.samples", before)
            self.model.raise_floor(before)
            drop_partitions_before(self.database, SAMPLES, before)

    def stale_mark(self, day: datetime) -> None:
        """A bucket marked although nothing changed, below the floor too."""
        self.owner(lambda c: mark(c, self.model.pipeline, [day + self.shift]))

    def check(self) -> None:
        connection = self.database.connect(Role.READER, autocommit=True)
        try:
            connection.execute("SELECT set_config('sluiceway.workspace_id', '1', false)")
            self.model.check(connection)
            connection.execute("SELECT set_config('sluiceway.workspace_id', '2', false)")
            count = connection.execute(
                "SELECT count(*) FROM gold.samples_1h WHERE pipeline_id = %s", (self.model.pipeline,)
            ).fetchone()
            assert count == (0,)
        finally:
            connection.close()


def play(run: Run, sequence: list[tuple[Any, ...]]) -> None:
    ensure_partitions(run.database, SAMPLES, [day + run.shift for day in DAYS])
    for operation in sequence:
        run.do(operation)
        run.check()
    run.refresh()
    run.check()


# Four years with a leap day: months have the same days in each.
STEP = timedelta(days=1461)


def test_law_on_plain_postgresql(gold_database: Database) -> None:
    counter = iter(range(1, 1_000_000))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations)
    def any_sequence(sequence: list[tuple[Any, ...]]) -> None:
        number = next(counter)
        play(Run(gold_database, number, STEP * number), sequence)

    any_sequence()


@pytest.mark.slow
def test_law_on_timescaledb(timescale: Database) -> None:
    counter = iter(range((beginning(timescale) - FIRST_DAY) // STEP + 1, 1_000_000))

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations)
    def any_sequence(sequence: list[tuple[Any, ...]]) -> None:
        number = next(counter)
        play(Run(timescale, number, STEP * number), sequence)

    any_sequence()
