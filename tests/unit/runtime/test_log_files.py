"""Log files are kept small, and for a time."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sluiceway.runtime.housekeeping import sweep_files
from sluiceway.runtime.logfiles import rotate

DAY = 86_400


def line(days_ago: float) -> str:
    return f"{datetime.now(UTC) - timedelta(days=days_ago):%Y-%m-%dT%H:%M:%S}.000Z INFO x began\n"


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def test_a_log_that_began_long_ago_is_moved_and_what_was_moved_long_ago_goes(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text(line(40) + line(0))
    (tmp_path / "loader.log").write_text(line(3))
    (tmp_path / "postgres.log").write_text("no day in this one\n")
    (tmp_path / "web.log.1").write_text("old")
    (tmp_path / "web.log.2").write_text("older")
    age(tmp_path / "web.log.1", 10)
    age(tmp_path / "web.log.2", 31)
    rotate(tmp_path, max_days=30)
    assert (tmp_path / "web.log").read_text() == ""
    assert (tmp_path / "web.log.1").read_text() == line(40) + line(0)
    assert (tmp_path / "web.log.2").read_text() == "old" and not (tmp_path / "web.log.3").exists()
    assert (tmp_path / "loader.log").read_text() == line(3)
    assert (tmp_path / "postgres.log").read_text() == "no day in this one\n"


def test_without_a_number_of_days_only_the_size_counts(tmp_path: Path) -> None:
    (tmp_path / "web.log").write_text(line(400))
    rotate(tmp_path)
    assert not (tmp_path / "web.log.1").exists()
    rotate(tmp_path, max_bytes=10)
    assert (tmp_path / "web.log").read_text() == "" and (tmp_path / "web.log.1").exists()


def test_output_of_steps_goes_with_its_folders(tmp_path: Path) -> None:
    kept, gone = tmp_path / "runs" / "b", tmp_path / "runs" / "a"
    for folder in (kept, gone):
        folder.mkdir(parents=True)
        (folder / "step.out").write_text("x")
    age(gone / "step.out", 31)
    age(gone, 31)
    before = datetime.now(UTC) - timedelta(days=30)
    assert sweep_files(tmp_path, before) == 1
    assert not (gone / "step.out").exists() and (kept / "step.out").exists()
    age(gone, 31)
    assert sweep_files(tmp_path, before) == 0
    assert not gone.exists() and kept.is_dir()
    assert sweep_files(tmp_path / "nothing", before) == 0
