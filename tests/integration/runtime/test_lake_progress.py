"""A loader's process tells how far its node's lake is, and when a spool is drained for good."""

import threading
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.loading.leases import Membership
from sluiceway.quality.contracts import NoGate
from sluiceway.runtime import spools
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import NOW_US, ORDERS, query

KEPT = "SELECT node, kept_until > now() - interval '1 hour', isfinite(kept_until) FROM app.spool_positions"


def until(wanted: list[tuple[object, ...]], database: Database) -> None:
    pause = threading.Event()
    for _ in range(600):
        if query(database, KEPT) == wanted:
            return
        pause.wait(0.1)
    assert query(database, KEPT) == wanted


def test_what_the_lake_has_is_told(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "TRIM_EVERY_S", 0.1)
    apply_pipeline(database, 1, ORDERS)
    settings = load_settings(
        {"SLUICEWAY_HOME": str(tmp_path), "SLUICEWAY_NODE": "own", "SLUICEWAY_BRONZE_FLUSH_S": "1"}
    )
    folder = settings.spool_dir
    writer = SpoolWriter(folder)
    writer.append_now(
        workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b'{"id": 1}', headers={},
        received_us=NOW_US,
    )  # fmt: skip
    writer.close()
    membership = Membership(database)
    work = spools.SpoolWork(settings, database, NoGate(), membership, folder)
    membership.beat()
    work.start()
    work.run_aside()
    try:
        until([("own", True, True)], database)
        pause = threading.Event()
        for _ in range(600):
            if work.finish():
                break
            pause.wait(0.1)
        until([("own", True, False)], database)
        pause.wait(0.5)  # several more turns of the thread that tells
        assert query(database, KEPT) == [("own", True, False)]
    finally:
        work.end()
        membership.close()
