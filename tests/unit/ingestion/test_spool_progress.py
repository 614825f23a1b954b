"""What a loader tells of its spool comes back as it was told, and rubbish is no news."""

from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.spool.progress import PROGRESS_FILE, SpoolProgress, Waiting, load_progress


def test_what_is_saved_is_loaded_and_replaced_whole(tmp_path: Path) -> None:
    assert load_progress(tmp_path) is None
    first = SpoolProgress(
        12.5, "node-1", Position(3, 40), 1700, 99, 2048.5, {7: Waiting(1000, 99), 9: Waiting(700, 120)}
    )
    first.save(tmp_path)
    assert load_progress(tmp_path) == first
    second = SpoolProgress(13.5, "node-1", Position(4, 0), 0, None, 2048.5)
    second.save(tmp_path)
    assert load_progress(tmp_path) == second
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}", b'{"at":"x"}', b"\xff"])
def test_an_unreadable_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROGRESS_FILE).write_bytes(content)
    assert load_progress(tmp_path) is None
