"""Files written so that a power cut leaves either all of one or nothing. Private to the slice.

The object store's own way is to rename first and leave the bytes to the page cache: after a power cut an
object could be there, under its name, without its content. Reading, listing and deleting stay the store's.
"""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

STAGING = ".staging"
_ABANDONED_S = 24 * 3600
_TRIES = 10


class FileOps:
    """The operating system's calls that decide what is there after a power cut."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        old.replace(new)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DurableFolder:
    """Writes files under `root`. Raises `OSError`; then nothing is left of the file."""

    def __init__(self, root: Path, files: FileOps | None = None) -> None:
        self._root = root
        self._files = files or FileOps()

    def put(self, path: str, data: "bytes | memoryview") -> None:
        """Replace the file as a whole: written aside, synced, renamed, and the folders synced."""
        staging = self._root / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        aside = staging / secrets.token_hex(12)
        try:
            self._write(aside, memoryview(data))
            self._move(aside, self._root / path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise

    def sweep(self, now_s: float | None = None) -> int:
        """Remove what processes that were killed left aside a day ago or longer; returns how many files."""
        now = time.time() if now_s is None else now_s
        removed = 0
        with suppress(OSError):
            for item in (self._root / STAGING).iterdir():
                with suppress(OSError):
                    if now - item.stat().st_mtime > _ABANDONED_S:
                        item.unlink()
                        removed += 1
        return removed

    def _write(self, path: Path, rest: memoryview) -> None:
        descriptor = self._files.create(path)
        try:
            while rest:
                rest = rest[self._files.write(descriptor, rest) :]
            self._files.sync(descriptor)
        finally:
            os.close(descriptor)

    def _move(self, aside: Path, target: Path) -> None:
        for left in reversed(range(_TRIES)):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._files.rename(aside, target)
                break
            except FileNotFoundError:
                # The day's last object was deleted just now, and its empty folder with it.
                if not left:
                    raise
        for folder in target.parents:
            self._files.sync_folder(folder)
            if folder == self._root:
                break
