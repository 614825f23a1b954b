"""What a loader tells of its spool comes back as it was told, and rubbish is no news."""

from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool.progress import PROGRESS_FILE, SpoolProgress, Waiting, load_progress


def test_what_is_saved_is_loaded_and_replaced_whole(tmp_path: Path) -> None:
    assert load_progress(tmp_path) is None
    first = SpoolProgress(
        12.5, "node-1", Position(3, 40), 2100, 99, 2048.5, {7: Waiting(1000, 99), 9: Waiting(700, 120)},
        scanned_to=Position(4, 80), unscanned_bytes=400,
    )  # fmt: skip
    first.save(tmp_path)
    assert load_progress(tmp_path) == first
    second = SpoolProgress(13.5, "node-1", Position(4, 0), 0, None, 2048.5)
    second.save(tmp_path)
    assert load_progress(tmp_path) == second
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS_FILE]


def test_what_an_older_loader_tells_is_understood(tmp_path: Path) -> None:
    (tmp_path / PROGRESS_FILE).write_bytes(
        b'{"at":12.5,"node":"n","read_to":[3,40],"waiting_bytes":7,"oldest_received_us":null,'
        b'"drained_bytes_per_s":0.0,"pipelines":{}}'
    )
    assert load_progress(tmp_path) == SpoolProgress(12.5, "n", Position(3, 40), 7, None, 0.0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"at":"x"}', b"\xff"])
def test_an_unreadable_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROGRESS_FILE).write_bytes(content)
    assert load_progress(tmp_path) is None
