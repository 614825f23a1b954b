"""A spool whose disk fails for a while: the loader waits and goes on."""

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from sluiceway.infra.database import Database
from sluiceway.ingestion.contracts import Position, Scan
from tests.support.loading import Bench, check_whole, order, query


@pytest.mark.faults
def test_a_disk_that_fails_for_a_while_ends_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sluiceway.loading.service._UNREADABLE_PAUSE_S", 0.01)
    bench = Bench(database, tmp_path / "spool")
    scan, failures = bench.reader.scan, [3]

    def failing(start: Position, max_bytes: int) -> Scan:
        if failures[0]:
            failures[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scan(start, max_bytes)

    monkeypatch.setattr(bench.reader, "scan", failing)
    bench.send([order(1), order(2)])
    stop = threading.Event()
    thread = threading.Thread(target=bench.loader.run, args=(stop,))
    with caplog.at_level(logging.ERROR):
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while query(database, "SELECT count(*) FROM silver.orders") != [(2,)]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            stop.set()
            thread.join(60)
            bench.close()
    assert failures == [0] and not thread.is_alive()
    assert check_whole(database) == 2
    assert [record.message for record in caplog.records].count(
        f"loading waits: the spool cannot be read: {OSError(errno.EIO, os.strerror(errno.EIO))}"
    ) == 1
