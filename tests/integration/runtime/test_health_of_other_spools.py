"""Health looks at every spool it can know of: beside its own, named to it, and told by other nodes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Gauge

from sluiceway.health.collecting import Collector
from sluiceway.health.facts import OtherSpool
from sluiceway.health.service import HealthWatch
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.reporting import Report, Reporter
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.ingestion.contracts import Form, Position
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.ingestion.spool.belonging import identify, mark_drained
from sluiceway.ingestion.spool.progress import SpoolProgress

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


def spool(folder: Path, node: str, records: int, *, age_s: int = 100) -> list[Position]:
    """A spool with some records; where each begins."""
    with SpoolWriter(folder) as writer:
        for _ in range(records):
            writer.append_now(
                workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}",
                received_us=NOW_US - age_s * 1_000_000,
            )  # fmt: skip
    identify(folder, node)
    from sluiceway.ingestion.spool import SpoolReader

    with SpoolReader(folder) as reader:
        return [record.position for record in reader.read(Position(0, 0), 1 << 20)]


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Of a node that is named a folder elsewhere."""
    settings.spool_dir.mkdir(parents=True)
    return load_settings(
        {
            "SLUICEWAY_HOME": str(settings.home),
            "SLUICEWAY_DATABASE_URL": settings.database_url or "",
            "SLUICEWAY_NODE": "test",
            "SLUICEWAY_SPOOLS": str(tmp_path / "named"),
        }
    )


def collect(own: Settings, database: Database) -> tuple[OtherSpool, ...]:
    def web() -> Report:
        return Report(own.node, "web", NOW, NOW, False, {}, [])

    return Collector(own, database, web, FixedClock(NOW)).sample().others


def test_folders_beside_its_own_and_named_ones_are_measured(
    own: Settings, database: Database, tmp_path: Path
) -> None:
    beside = spool(own.spool_dir.parent / "beside", "beside", 3)
    spool(tmp_path / "named", "gone", 2)
    spool(own.spool_dir.parent / "over", "over", 2)
    mark_drained(own.spool_dir.parent / "over")
    with database.transaction(Role.OWNER) as connection:
        connection.execute(
            sa.text("INSERT INTO app.spool_positions (node, segment, \"offset\") VALUES ('beside', :s, :o)"),
            {"s": beside[2].segment, "o": beside[2].offset},
        )
    first, second = collect(own, database)
    assert (first.node, first.seen, first.attended) == ("beside", True, False)
    assert first.silver is not None and first.bronze is not None
    assert 0 < first.silver.waiting_bytes < first.bronze.waiting_bytes
    assert first.silver.lag_s(NOW.timestamp()) == 100
    assert (second.node, second.attended) == ("gone", False)
    assert second.silver == second.bronze
    # A loader that is at it tells what waits.
    SpoolProgress(
        at=NOW.timestamp() - 1, node="gone", read_to=Position(0, 0), waiting_bytes=7,
        oldest_received_us=NOW_US, drained_bytes_per_s=0.0,
    ).save(tmp_path / "named")  # fmt: skip
    _, second = collect(own, database)
    assert second.attended and second.silver is not None and second.silver.waiting_bytes == 7


def test_other_machines_loaders_tell_of_theirs(own: Settings, database: Database, tmp_path: Path) -> None:
    far = load_settings({"SLUICEWAY_HOME": str(tmp_path / "far"), "SLUICEWAY_NODE": "far"})
    registry = CollectorRegistry()
    waiting = Gauge("sluiceway_waiting_bytes", "text", ["stage"], registry=registry)
    lag = Gauge("sluiceway_lag_seconds", "text", ["stage"], registry=registry)
    for stage, size_bytes in (("silver", 4096), ("bronze", 0)):
        waiting.labels(stage).set(size_bytes)
        lag.labels(stage).set(30)
    trouble = {"since": (NOW - timedelta(seconds=90)).isoformat(), "reason": "no reason"}
    told = FixedClock(NOW - timedelta(seconds=5))
    Reporter(
        far, "loader", database, registries=[registry], state=lambda: {"loading": trouble}, clock=told
    ).report()
    (found,) = collect(own, database)
    assert (found.node, found.seen, found.attended) == ("far", False, True)
    assert found.silver is not None and found.silver.waiting_bytes == 4096
    assert found.silver.lag_s(NOW.timestamp()) == pytest.approx(35)
    assert found.bronze is not None and found.bronze.waiting_bytes == 0

    def web() -> Report:
        return Report(own.node, "web", NOW, NOW, False, {"listening": True}, [])

    health = HealthWatch(own, database, web, clock=FixedClock(NOW)).assess()
    loading = next(stage for stage in health.stages if stage.key == "loading")
    assert any(
        "node far has not committed for 90 s although 4.0 kB wait" in f.words for f in loading.findings
    )
