"""A segment that was taken back and made again, and sectors that the disk cannot read."""

import errno
import os
from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import START, Form, Position
from sluiceway.ingestion.errors import SpoolWriteFailed
from sluiceway.ingestion.spool import SpoolReader, SpoolWriter
from sluiceway.ingestion.spool.segments import FileOps, numbers, path_of


def put(writer: SpoolWriter, body: bytes) -> Position:
    return writer.append_now(workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=body)


def bodies(reader: SpoolReader) -> list[bytes]:
    return [record.body for record in reader.read(START, 1 << 24)]


class LookedAt(FileOps):
    """The next sync fails, after a reader has opened what was to be synced."""

    def __init__(self, reader: SpoolReader) -> None:
        self.reader: SpoolReader | None = reader

    def sync(self, descriptor: int) -> None:
        if self.reader is not None:
            self.reader.scan(START, 1 << 20)
            self.reader = None
            raise OSError(errno.EINVAL, "Invalid argument")
        super().sync(descriptor)


def test_a_number_is_not_given_again_after_a_segment_could_not_begin(tmp_path: Path) -> None:
    with SpoolReader(tmp_path) as reader, SpoolWriter(tmp_path, files=LookedAt(reader)) as writer:
        first = writer._number + 1
        with pytest.raises(SpoolWriteFailed):
            put(writer, b'{"n":0}')
        assert put(writer, b'{"n":1}').segment == first + 1
        assert bodies(reader) == [b'{"n":1}']


def test_a_segment_made_again_under_its_number_is_opened_again(tmp_path: Path) -> None:
    """A writer that failed and was killed: the next one knows nothing of the number."""
    with SpoolReader(tmp_path) as reader:
        failing = SpoolWriter(tmp_path, now_s=lambda: 2e9, files=LookedAt(reader))
        with failing, pytest.raises(SpoolWriteFailed):
            put(failing, b'{"n":0}')
        assert numbers(tmp_path) == []
        with SpoolWriter(tmp_path, now_s=lambda: 2e9) as writer:
            put(writer, b'{"n":1}')
            put(writer, b'{"n":2}')
            assert list(reader._open) == numbers(tmp_path), "it has the old file open under this number"
            assert bodies(reader) == [b'{"n":1}', b'{"n":2}']
            mixed = reader.read(START, 1 << 20, pipelines={1})
            assert [record.body for record in mixed] == [b'{"n":1}', b'{"n":2}']


class BadDisk:
    """`os.pread` that fails with EIO where a piece touches [`begin`, `end`)."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self._pread = os.pread

    def __call__(self, descriptor: int, size: int, offset: int) -> bytes:
        if offset < self.end and self.begin < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._pread(descriptor, size, offset)


def test_an_unreadable_sector_costs_the_records_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = [b'{"n":%d,"fill":"%s"}' % (n, b"x" * 500) for n in range(100)]
    with SpoolWriter(tmp_path) as writer:
        positions = [put(writer, body) for body in sent]
        monkeypatch.setattr(os, "pread", BadDisk(8192, 12288))
        ends = [position.offset for position in positions[1:]] + [1 << 30]
        whole = [
            body
            for body, position, end in zip(sent, positions, ends, strict=True)
            if end <= 8192 or position.offset >= 12288
        ]
        assert 80 < len(whole) < 100
        with SpoolReader(tmp_path) as reader:
            assert bodies(reader) == whole
            assert reader.scan(START, 1 << 24).end == Position(positions[-1].segment, reader_end(tmp_path))
            assert reader.corrupt_records == 1
    assert "unreadable bytes" in caplog.text


def reader_end(folder: Path) -> int:
    return path_of(folder, numbers(folder)[-1]).stat().st_size


def test_a_disk_that_reads_nothing_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SpoolWriter(tmp_path) as writer:
        for _ in range(3):
            put(writer, b'"%s"' % (b"x" * 100_000))
        with SpoolReader(tmp_path) as reader:
            with monkeypatch.context() as patched:
                patched.setattr(os, "pread", BadDisk(0, 1 << 40))
                with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                    reader.read(START, 1 << 20)
            assert len(bodies(reader)) == 3 and reader.corrupt_records == 0
