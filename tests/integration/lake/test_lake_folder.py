"""A lake that is a folder: the power cut at every file call, and a disk that is full for a while."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluiceway.infra.settings import Settings, load_settings
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.local import DurableFolder, FileOps
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, ListReader, expected, payloads, pipeline, record
from tests.support.lake_world import World, wait_until

pytestmark = pytest.mark.faults

NAME = "bronze/w1/orders/date=2026-03-14/n-1-0-1-100.parquet"
NEW = b"new content " * 1000
OLD = b"old content"


class PowerCut(BaseException):
    """Nothing in the code under test may catch it."""


@dataclass
class CutFiles(FileOps):
    """Loses power before the `at`th call. `after` then takes away what no sync has made safe.

    The worst that a file system may do: a file keeps only what was synced, a name in a folder that was not
    synced since is as it was before or as it is now (`renames_stay`).
    """

    at: int | None
    calls: list[str] = field(default_factory=list)
    unsynced: dict[int, Path] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    renamed: list[tuple[Path, Path, bytes | None]] = field(default_factory=list)

    def _call(self, name: str) -> None:
        if len(self.calls) == self.at:
            raise PowerCut(name)
        self.calls.append(name)

    def create(self, path: Path) -> int:
        self._call("create")
        descriptor = super().create(path)
        self.paths[descriptor] = self.unsynced[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        self._call("write")
        return super().write(descriptor, data[:5000])  # never all at once

    def sync(self, descriptor: int) -> None:
        self._call("sync")
        super().sync(descriptor)
        self.unsynced.pop(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename")
        before = new.read_bytes() if new.exists() else None
        super().rename(old, new)
        for descriptor, path in self.unsynced.items():
            if path == old:
                self.unsynced[descriptor] = new
        self.renamed.append((old, new, before))

    def sync_folder(self, folder: Path) -> None:
        self._call(f"sync folder {folder.name}")
        super().sync_folder(folder)
        self.renamed = [entry for entry in self.renamed if entry[1].parent != folder]

    def after(self, renames_stay: bool) -> None:
        for path in self.unsynced.values():
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        for _, new, before in [] if renames_stay else self.renamed:
            new.unlink() if before is None else new.write_bytes(before)


@pytest.mark.parametrize("before", [None, OLD], ids=["fresh", "replaced"])
@pytest.mark.parametrize("renames_stay", [True, False])
def test_a_power_cut_leaves_all_or_nothing(tmp_path: Path, before: bytes | None, renames_stay: bool) -> None:
    whole = CutFiles(None)
    DurableFolder(tmp_path / "whole", whole).put(NAME, NEW)
    assert len(whole.calls) > 10 and whole.renamed == [] and whole.unsynced == {}
    for at in range(len(whole.calls) + 1):
        root = tmp_path / str(at)
        if before is not None:
            DurableFolder(root).put(NAME, before)
        files = CutFiles(at)
        done = True
        try:
            DurableFolder(root, files).put(NAME, NEW)
        except PowerCut:
            done = False
        files.after(renames_stay)
        found = (root / NAME).read_bytes() if (root / NAME).exists() else None
        assert found in ((NEW,) if done else (NEW, before)), files.calls


def test_the_file_is_safe_before_its_name_and_the_name_before_put_returns(tmp_path: Path) -> None:
    files = CutFiles(None)
    DurableFolder(tmp_path / "lake", files).put(NAME, b"x")
    assert files.calls == [
        "create", "write", "sync", "rename", "sync folder date=2026-03-14", "sync folder orders",
        "sync folder w1", "sync folder bronze", "sync folder lake",
    ]  # fmt: skip


class FullDisk(FileOps):
    """Has room for `left` more bytes. As a disk does, it takes a part of the last write."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.refused = 0

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.left <= 0:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = super().write(descriptor, data[: self.left])
        self.left -= taken
        return taken


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"SLUICEWAY_HOME": str(tmp_path / "home"), "SLUICEWAY_NODE": "node-1"})


def files_of(settings: Settings) -> list[str]:
    root = settings.home / "lake"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_full_disk_leaves_nothing_half_written(settings: Settings, tmp_path: Path) -> None:
    disk = FullDisk(500)
    lake = Lake(settings, files=disk)
    records = [record(0), record(1)]
    writer = BronzeWriter(
        ListReader(records), lake, tmp_path / "cursor", "node-1", split, {1: "orders"}.get, flush_bytes=1
    )
    with pytest.raises(LakeUnavailable, match="No space left"):
        writer.step()
    assert disk.refused == 1 and files_of(settings) == []
    disk.left = 1 << 20
    while writer.position < records[-1].end:
        writer.step()
    assert payloads(lake, pipeline()) == expected(records)


def test_a_full_disk_during_a_compaction_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    disk = FullDisk(1 << 20)
    lake = Lake(settings, files=disk)
    records = [record(n) for n in range(5)]
    writer = BronzeWriter(
        ListReader(records), lake, tmp_path / "cursor", "node-1", split, {1: "orders"}.get, flush_bytes=1
    )
    while writer.position < records[-1].end:
        writer.step()
    there = files_of(settings)
    disk.left = 100
    with pytest.raises(LakeUnavailable, match="No space left"):
        lake.compact_day(pipeline(), DAY)
    assert files_of(settings) == there
    disk.left = 1 << 20
    assert lake.compact_day(pipeline(), DAY).objects_after == 1
    assert payloads(lake, pipeline()) == expected(records)


def test_events_are_taken_while_the_lakes_disk_is_full(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluiceway.lake.writer._FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr("sluiceway.lake.writer._LONGEST_PAUSE_S", 0.2)
    disk = FullDisk(20_000)
    with World(settings, lake=Lake(settings, files=disk)) as world:
        wait_until("the disk is full", lambda: world.bronze.state.failures >= 2)
        world.wait_for_more(50)
        disk.left = 1 << 40
        world.finish_sending()
        world.wait_for_bronze()
        assert payloads(world.lake, pipeline()) == world.acknowledged


@pytest.mark.parametrize("gone", [lambda folder: folder.rmdir(), lambda folder: None])
def test_a_folder_that_a_compaction_removed_just_now_is_made_again(
    tmp_path: Path, gone: Callable[[Path], None]
) -> None:
    class Late(FileOps):
        tries = 0

        def rename(self, old: Path, new: Path) -> None:
            self.tries += 1
            if self.tries == 1:
                gone(new.parent)
            super().rename(old, new)

    DurableFolder(tmp_path, Late()).put(NAME, NEW)
    assert (tmp_path / NAME).read_bytes() == NEW
