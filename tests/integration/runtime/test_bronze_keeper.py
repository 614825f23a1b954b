"""The thread that keeps bronze outlives whatever keeps it from beginning."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sluiceway.infra.settings import load_settings
from sluiceway.ingestion.contracts import Form, Position
from sluiceway.ingestion.spool import Spool
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.runtime import spools
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, DAY_US, payloads, pipeline

PATIENCE_S = 60.0


def wait_until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.faults
def test_bronze_begins_when_the_lakes_folder_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spools, "_TRY_AGAIN_S", 0.01)
    settings = load_settings({"SLUICEWAY_HOME": str(tmp_path / "home"), "SLUICEWAY_NODE": "n"})
    in_the_way = tmp_path / "home" / "lake"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where the lake's folder should be")
    spool = Spool(tmp_path / "spool", 1 << 20, 1 << 30, reserve_bytes=0)
    with spool.writer() as writer, spool.reader() as reader:
        writer.append_now(
            workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=b"{}", received_us=DAY_US
        )

        def make() -> BronzeWriter:
            return BronzeWriter(
                reader, Lake(settings), spool.folder, "n", split, {1: "orders"}.get, flush_s=0.01
            )

        keeper = spools.Keeper(spool, make, lambda: None)
        stop = threading.Event()
        thread = threading.Thread(target=keeper.run, args=(stop,))
        with caplog.at_level(logging.ERROR):
            thread.start()
            try:
                wait_until(lambda: keeper.state.failures >= 3)
                assert keeper.state.failing_since is not None and keeper.state.reason
                assert keeper.position is None
                in_the_way.unlink()
                wait_until(lambda: (keeper.position or Position(0, 0)) > Position(0, 0))
                wait_until(lambda: keeper.state.failing_since is None)
            finally:
                stop.set()
                thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert [r.message for r in caplog.records].count(
        f"bronze of {spool.folder} cannot begin, and is tried again"
    ) == 1
    assert payloads(Lake(settings), pipeline(), DAY) == [b"{}"]
