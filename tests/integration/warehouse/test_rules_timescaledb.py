"""Workspaces' policies and row rules on TimescaleDB: in hypertables, their chunks, and in gold's views."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.database import Database, Role
from sluiceway.rules import service
from sluiceway.rules.contracts import RuleSpec
from sluiceway.warehouse.erasing import erase_rows
from sluiceway.warehouse.gold import refresh_dirty
from sluiceway.warehouse.schema import apply_pipeline
from tests.integration.warehouse.conftest import beginning
from tests.support.ruled import SALES, eyes

pytestmark = pytest.mark.slow

EU, NOBODY = eyes(regions=["EU"]), eyes()
OWNER = eyes("owner")


@dataclass
class Kept:
    """A pipeline in one workspace: of each region a row an hour, ten of them, and samples."""

    database: Database
    pipeline_id: int
    table: str
    at: datetime

    def ask(self, text: str, access: DataAccess | None = None, **values: Any) -> list[tuple[Any, ...]]:
        """As the reader, with somebody's eyes."""
        with self.database.transaction(Role.READER, access=access) as conn:
            return [tuple(row) for row in conn.execute(sa.text(text), values)]

    def regions(self, access: DataAccess) -> list[tuple[str, int]]:
        return self.ask(f'SELECT region, count(*) FROM silver."{self.table}" GROUP BY 1 ORDER BY 1', access)

    def gold(self, access: DataAccess) -> float | None:
        """The sum of what was filled in: other tests' gold of this pipeline's number is earlier."""
        text = "SELECT sum(sum) FROM gold.samples_1h WHERE pipeline_id = :p AND bucket >= :at"
        return self.ask(text, access, p=self.pipeline_id, at=self.at)[0][0]


def _do(database: Database, text: str, **values: Any) -> list[Any]:
    with database.transaction(Role.OWNER) as conn:
        done = conn.execute(sa.text(text), values)
        return list(done.scalars()) if done.returns_rows else []


@pytest.fixture
def kept(timescale: Database) -> Iterator[Kept]:
    if not _do(timescale, "SELECT id FROM app.workspaces WHERE id = 2"):
        _do(timescale, "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'two', 'Two')")
    yield _fill(timescale, 1)
    for rule in _do(timescale, "SELECT name FROM app.rules WHERE workspace_id = 1"):
        service.delete_rule(timescale, 1, rule)


def _fill(database: Database, workspace_id: int) -> Kept:
    at = beginning(database) + timedelta(days=400)
    apply_pipeline(database, workspace_id, SALES.replace("name: sales", "name: ruled-sales"))
    find = (
        "SELECT id || ' ' || silver_table FROM app.pipelines WHERE workspace_id = :w AND slug = 'ruled-sales'"
    )
    number, table = str(_do(database, find, w=workspace_id)[0]).split()
    known = Kept(database, int(number), table, at)
    _do(database, f'DELETE FROM silver."{table}"')
    _do(database, "DELETE FROM silver.samples WHERE pipeline_id = :p", p=known.pipeline_id)
    _do(database, "DELETE FROM silver.series WHERE pipeline_id = :p", p=known.pipeline_id)
    for place, region in enumerate(("EU", "US")):
        _do(
            database,
            f'INSERT INTO silver."{table}" (workspace_id, seq, event_id, event_time, received_at, batch_id,'
            " position, region, amount) SELECT :w, n * 2 + :place, :region || n, :at + n * interval '1 hour',"
            " now(), 1, 'p', :region, n FROM generate_series(1, 10) n",
            w=workspace_id, place=place, region=region, at=at,
        )  # fmt: skip
        series = known.pipeline_id * 10 + place
        _do(
            database,
            "INSERT INTO silver.series (series_id, workspace_id, pipeline_id, metric, dimensions)"
            " VALUES (:s, :w, :p, 'amount', jsonb_build_object('region', CAST(:region AS text)))",
            s=series, w=workspace_id, p=known.pipeline_id, region=region,
        )  # fmt: skip
        _do(
            database,
            "INSERT INTO silver.samples SELECT :w, :p, :s, :at + n * interval '1 hour', n, n * 2"
            " FROM generate_series(1, 10) n",
            w=workspace_id, p=known.pipeline_id, s=series, at=at,
        )  # fmt: skip
    _do(
        database,
        "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
        " SELECT :w, :p, l.name, gold.time_bucket(l.width, :at + n * interval '1 hour')"
        " FROM generate_series(1, 10) n, (VALUES ('1m', interval '1 minute'), ('1h', interval '1 hour'),"
        " ('1d', interval '1 day')) l (name, width)",
        w=workspace_id, p=known.pipeline_id, at=at,
    )  # fmt: skip
    refresh_dirty(database)
    return known


def _rule(kept: Kept, rows: str) -> None:
    spec = {"name": "regions", "pipeline": "ruled-sales", "except": ["owner"], "rows": rows}
    service.save_rule(kept.database, 1, RuleSpec.model_validate(spec))


def test_a_hypertable_shows_each_workspace_its_own(kept: Kept) -> None:
    _do(kept.database, f"UPDATE silver.\"{kept.table}\" SET workspace_id = 2 WHERE region = 'US'")
    assert kept.regions(OWNER) == [("EU", 10)]
    assert kept.regions(eyes("owner", workspace_id=2)) == [("US", 10)]
    assert kept.ask(f'SELECT 1 FROM silver."{kept.table}"') == []


def test_a_rule_holds_in_rows_and_in_gold(kept: Kept) -> None:
    assert kept.regions(EU) == [("EU", 10), ("US", 10)] and kept.gold(EU) == 110
    _rule(kept, "region in user.regions")
    assert kept.regions(EU) == [("EU", 10)]
    assert kept.regions(NOBODY) == []
    assert kept.regions(OWNER) == [("EU", 10), ("US", 10)]
    # Gold's rows have no policies of their own there: its views ask for the series.
    assert (kept.gold(EU), kept.gold(NOBODY), kept.gold(OWNER)) == (55, None, 110)


def test_what_gold_cannot_tell_it_does_not_show(kept: Kept) -> None:
    _rule(kept, "region in user.regions and amount < 5")
    assert kept.regions(EU) == [("EU", 4)]
    assert (kept.gold(EU), kept.gold(OWNER)) == (None, 110)


@pytest.mark.parametrize("role", [Role.READER, Role.APP])
def test_nobody_goes_round_a_policy_by_a_chunk(kept: Kept, role: Role) -> None:
    """Chunks have no policies, and what is granted on a hypertable is granted on them."""
    chunks = _do(
        kept.database,
        "SELECT format('%I.%I', chunk_schema, chunk_name) FROM timescaledb_information.chunks",
    )
    assert len(chunks) > 3
    connection = kept.database.connect(role, autocommit=True)
    try:
        for chunk in chunks:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {chunk}")
        for view in ("samples_1m", "samples_1h", "samples_1d"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM gold.{view}_materialized")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM silver.samples")
    finally:
        connection.close()


def test_every_hypertable_of_rows_has_its_policy(kept: Kept) -> None:
    bare = _do(
        kept.database,
        "SELECT h.hypertable_name::text FROM timescaledb_information.hypertables h JOIN pg_class c"
        " ON c.oid = format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass"
        " WHERE h.hypertable_schema = 'silver' AND NOT c.relrowsecurity",
    )
    # A continuous aggregate cannot be made over policies: readers are not granted on the samples at all.
    assert bare == ["samples"]


def test_a_deleted_workspace_leaves_no_rows_and_no_gold(timescale: Database, kept: Kept) -> None:
    theirs = _fill(timescale, 2)
    assert theirs.gold(eyes("owner", workspace_id=2)) == 110
    assert erase_rows(timescale, 2, but_topic="-") > 20
    assert theirs.gold(eyes("owner", workspace_id=2)) is None
    refresh_dirty(timescale)
    assert theirs.gold(eyes("owner", workspace_id=2)) is None
    assert _do(timescale, f'SELECT count(*) FROM silver."{theirs.table}"') == [0]
    assert kept.gold(OWNER) == 110 and kept.regions(OWNER) == [("EU", 10), ("US", 10)]
