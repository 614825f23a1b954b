"""How the writer wakes readers in other processes: a Unix datagram socket for each, in the spool's folder.

A ring carries nothing and may be lost: it only ends a sleep early. Not here: what there is to read.
"""

import itertools
import os
import select
import socket
import time
from contextlib import suppress
from pathlib import Path

from sluiceway.ingestion.spool.segments import DOORBELLS

_SETTLED_S = 0.05  # a folder's time stamp is this coarse at most: a younger one may hide another change
_POLL_S = 0.05
_BY_DESCRIPTOR = Path("/proc/self/fd").is_dir()
_counter = itertools.count()


class _Folder:
    """A folder by descriptor, so that socket paths stay under the 107 bytes that Unix sockets allow."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def address(self, name: str) -> str:
        if _BY_DESCRIPTOR:
            return f"/proc/self/fd/{self._descriptor}/{name}"
        return str(self.path / name)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Bell:
    """The writer's side: ring everyone who listens."""

    def __init__(self, folder: Path) -> None:
        self._folder = _Folder(folder / DOORBELLS)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._names: list[str] = []
        self._seen_ns = -1

    def ring(self) -> None:
        for name in self._listeners():
            try:
                self._socket.sendto(b"\0", self._folder.address(name))
            except (ConnectionRefusedError, FileNotFoundError):
                (self._folder.path / name).unlink(missing_ok=True)  # its reader is gone
            except OSError:
                continue  # its queue is full: it has rings waiting

    def _listeners(self) -> list[str]:
        try:
            changed_ns = self._folder.path.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        if changed_ns != self._seen_ns:
            self._names = [name for name in os.listdir(self._folder.path) if name.endswith(".sock")]  # noqa: PTH208
            settled = time.time() - changed_ns / 1e9 > _SETTLED_S
            self._seen_ns = changed_ns if settled else -1
        return self._names

    def close(self) -> None:
        self._socket.close()
        self._folder.close()


class Ear:
    """A reader's side. Made when the reader first waits."""

    def __init__(self, folder: Path) -> None:
        self._folder = _Folder(folder / DOORBELLS)
        self._name = f"{os.getpid()}-{next(_counter)}.sock"
        self._path = self._folder.path / self._name
        self._path.unlink(missing_ok=True)  # of an earlier process that had this number
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            self._socket.bind(self._folder.address(self._name))
            self._bound = True
        except OSError:
            self._bound = False  # no sockets in this file system: look again every little while

    def wait(self, timeout_s: float) -> bool:
        if not self._bound:
            time.sleep(min(timeout_s, _POLL_S))
            return True
        ready, _, _ = select.select([self._socket], [], [], max(0.0, timeout_s))
        if not ready:
            return False
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(16)
        return True

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
        self._folder.close()
