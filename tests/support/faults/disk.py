"""A disk that loses power: what was written since the last sync is dropped, torn or reordered by a seed.

The files are real, so that everything else can read them; beside them is kept what is sure to be on disk.
After the cut nothing works any more, and `restart` makes the folder that the machine finds when it is up:

- a file has what it had at its last sync, and of each sector written since then either the new or the old
  content, whatever the order of writing; its size is anything in between;
- a name that was made, changed or removed since its folder was last synced is there or not; a rename is
  whole.
"""

import errno
import os
import random
import threading
from dataclasses import dataclass, field
from pathlib import Path

from sluiceway.ingestion.spool.segments import FileOps

SECTOR = 512


class PowerCut(OSError):
    """The machine has no power: every call fails from now on."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "power cut")


@dataclass
class _File:
    """`safe`: the content at the last sync. `dirty`: the writes since then, as (offset, bytes)."""

    safe: bytes = b""
    dirty: list[tuple[int, bytes]] = field(default_factory=list)
    size: int = 0

    def after_cut(self, chance: random.Random) -> bytes:
        kept: dict[int, bytes] = {}
        for offset, data in self.dirty:
            for begin, part in _sectors(offset, data):
                if chance.random() < 0.5:
                    kept[begin] = part
        ends = [begin + len(part) for begin, part in kept.items()]
        least = max([len(self.safe), *ends])
        most = max([least, *(offset + len(data) for offset, data in self.dirty)])
        content = bytearray(chance.choice([least, most, chance.randint(least, most)]))
        content[: len(self.safe)] = self.safe
        for begin, part in kept.items():
            content[begin : begin + len(part)] = part
        return bytes(content)


def _sectors(offset: int, data: bytes) -> list[tuple[int, bytes]]:
    """The data cut where the disk's sectors begin."""
    found = []
    at = 0
    while at < len(data):
        step = SECTOR - (offset + at) % SECTOR
        found.append((offset + at, data[at : at + step]))
        at += step
    return found


class VolatileDisk(FileOps):
    """The spool's file calls on such a disk, for all under `root`. Power goes with the `cut_at`th call."""

    def __init__(self, root: Path, *, cut_at: int | None = None, chance: random.Random | None = None) -> None:
        self.root = root
        self.dead = threading.Event()
        self.calls = 0
        self._cut_at = cut_at
        self._chance = chance or random.Random(0)
        self._lock = threading.RLock()
        self._files: dict[int, _File] = {}
        self._names: dict[Path, int] = {}
        self._pending: list[tuple[Path | None, Path | None, int]] = []
        for path in sorted(root.rglob("*")):
            if path.is_file():
                inode = path.stat().st_ino
                data = path.read_bytes()
                self._files[inode] = _File(data, size=len(data))
                self._names[path] = inode

    def create(self, path: Path) -> int:
        with self._lock:
            self._call()
            descriptor = super().create(path)
            inode = os.fstat(descriptor).st_ino
            self._files[inode] = _File()
            self._pending.append((None, path, inode))
            return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        with self._lock:
            whole = bytes(data)
            last = self._is_last()
            file = self._files[os.fstat(descriptor).st_ino]
            if last:  # power goes while it is being written
                whole = whole[: self._chance.randint(0, len(whole))]
            file.dirty.append((file.size, whole))
            file.size += len(whole)
            if last:
                self._call()
            self.calls += 1
            return super().write(descriptor, whole)

    def sync(self, descriptor: int) -> None:
        with self._lock:
            self._call()
            super().sync(descriptor)
            self._keep(os.fstat(descriptor).st_ino)

    def truncate(self, descriptor: int, size_bytes: int) -> None:
        with self._lock:
            self._call()
            super().truncate(descriptor, size_bytes)
            self._keep(os.fstat(descriptor).st_ino)

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:
            self._call()
            old.replace(new)
            self._pending.append((old, new, new.stat().st_ino))

    def sync_folder(self, folder: Path) -> None:
        with self._lock:
            self._call()
            super().sync_folder(folder)
            rest = []
            for change in self._pending:
                old, new, _ = change
                if (new or old or folder).parent == folder:
                    self._apply(self._names, change)
                else:
                    rest.append(change)
            self._pending = rest

    def cut(self) -> None:
        """No power from now on."""
        with self._lock:
            self.dead.set()

    def restart(self, target: Path) -> None:
        """Make `target` what is found after the power is back."""
        assert self.dead.is_set()
        names = dict(self._names)
        for change in self._pending:
            if self._chance.random() < 0.5:
                self._apply(names, change)
        for path, inode in names.items():
            gone = not path.exists() and not any(change[0] == path for change in self._pending)
            if gone and self._chance.random() < 0.5:
                continue  # removed without a sync of the folder: it may come back, and it may not
            found = target / path.relative_to(self.root)
            found.parent.mkdir(parents=True, exist_ok=True)
            found.write_bytes(self._files[inode].after_cut(self._chance))

    def _keep(self, inode: int) -> None:
        file = self._files[inode]
        content = bytearray(file.safe)
        for offset, data in file.dirty:
            content[len(content) :] = bytes(max(0, offset - len(content)))
            content[offset : offset + len(data)] = data
        path = next(p for p, i in self._all_names().items() if i == inode)
        file.safe, file.dirty = path.read_bytes(), []
        file.size = len(file.safe)
        assert bytes(content[: file.size]) == file.safe, "the model of the disk has lost track"

    def _all_names(self) -> dict[Path, int]:
        names = dict(self._names)
        for change in self._pending:
            self._apply(names, change)
        return names

    @staticmethod
    def _apply(names: dict[Path, int], change: tuple[Path | None, Path | None, int]) -> None:
        old, new, inode = change
        if old is not None:
            names.pop(old, None)
        if new is not None:
            names[new] = inode

    def _is_last(self) -> bool:
        return self._cut_at is not None and self.calls + 1 >= self._cut_at

    def _call(self) -> None:
        if self._is_last():
            self.dead.set()
        if self.dead.is_set():
            raise PowerCut
        self.calls += 1
