"""The object store under the lake: a folder or a bucket behind one small face. Private to the slice."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from sluiceway.lake.contracts import LakeStats, Traffic
from sluiceway.lake.errors import LakeUnavailable
from sluiceway.lake.local import DurableFolder, FileOps

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config

    from sluiceway.infra.settings import Settings

STEP_BYTES = 8 * 1024 * 1024
"""A request may take `SLUICEWAY_LAKE_TIMEOUT_S` for each of these that it carries."""
AT_ONCE = 8
"""How many requests one operation has under way."""
_RETRIES = 3
_CONNECT_TIMEOUT_S = 5
_LONGEST_BACKOFF_S = 3
_KINDS = {"kind: Timeout": " (no answer in time)", "kind: Connect": " (no connection)"}

Store = LocalStore | S3Store
T = TypeVar("T")


class ObjectStore:
    """Whole objects by path. Raises `LakeUnavailable`; `get` of a missing object `FileNotFoundError`.

    `open_` gives the store whose requests may carry so many steps of 8 MB. Safe for several threads.
    """

    def __init__(self, open_: Callable[[int], Store], shown: str, folder: DurableFolder | None) -> None:
        self._open = open_
        self._stores: dict[int, Store] = {1: open_(1)}
        self._shown = shown
        self._files = folder
        self._lock = threading.Lock()
        self.stats = LakeStats()

    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write the whole object; when this returns it is durable and no reader saw a part of it.

        One request whatever the size: a bucket shows an object that came whole or none, and an upload that
        breaks off leaves nothing behind (the parts of a multipart upload would stay, unseen and paid for).
        """
        with self._counted(self.stats.put, len(data)):
            if self._files is not None:
                self._files.put(path, data)
            else:
                obstore.put(self._for(len(data)), path, data, use_multipart=False)

    def get(self, path: str, size_bytes: int = 0) -> bytes:
        """The object's bytes; `size_bytes`, if it is known, gives a large one the time it needs."""
        with self._counted(self.stats.get, missing=True) as traffic:
            found = bytes(obstore.get(self._for(size_bytes), path).bytes())
            with self._lock:
                traffic.size_bytes += len(found)
            return found

    def tail(self, path: str, size_bytes: int, last: int) -> bytes:
        """The last bytes of an object that has `size_bytes`."""
        with self._counted(self.stats.get, missing=True):
            begin = max(0, size_bytes - last)
            return bytes(obstore.get_range(self._stores[1], path, start=begin, end=size_bytes))

    def size(self, path: str) -> int:
        with self._counted(self.stats.get, missing=True):
            return int(obstore.head(self._stores[1], path)["size"])

    def listing(self, prefix: str) -> "list[ObjectMeta]":
        with self._counted(self.stats.listing):
            store = self._stores[1]
            return [item for chunk in obstore.list(store, prefix, chunk_size=1000) for item in chunk]

    def folders(self, prefix: str) -> list[str]:
        """Paths of the folders directly under `prefix`."""
        with self._counted(self.stats.listing):
            return list(obstore.list_with_delimiter(self._stores[1], prefix)["common_prefixes"])

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; one that is gone already is fine. A bucket is asked to remove many at a time."""
        if self._files is None:
            with self._counted(self.stats.delete):
                obstore.delete(self._stores[1], list(paths))
            return
        for path in paths:
            with self._counted(self.stats.delete), suppress(FileNotFoundError):
                obstore.delete(self._stores[1], path)

    def sweep(self) -> None:
        """Remove what killed processes left half written in a folder; a bucket has nothing such."""
        if self._files is not None:
            self._files.sweep()

    def _for(self, size_bytes: int) -> Store:
        steps = 1
        while steps * STEP_BYTES < size_bytes:
            steps *= 2
        with self._lock:
            if steps not in self._stores:
                self._stores[steps] = self._open(steps)
            return self._stores[steps]

    @contextmanager
    def _counted(self, traffic: Traffic, size_bytes: int = 0, *, missing: bool = False) -> Iterator[Traffic]:
        """`missing`: a missing object is the caller's to handle; else it is a bucket that is not there."""
        began = time.perf_counter()
        failed = False
        try:
            yield traffic
        except (BaseError, OSError) as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            failed = True
            raise LakeUnavailable(f"The lake at {self._shown} cannot be used: {_reason(error)}") from error
        finally:
            with self._lock:
                traffic.requests += 1
                traffic.failures += failed
                traffic.seconds += time.perf_counter() - began
                traffic.size_bytes += 0 if failed else size_bytes


def ahead(
    items: Sequence[T], load: Callable[[T], bytes], size_of: Callable[[T], int], most_bytes: int
) -> Generator[tuple[T, Callable[[], bytes]], None, None]:
    """Each item in order with a call that gives its bytes (or its error); the next are fetched meanwhile.

    What is fetched and not taken yet is at most `most_bytes`, or one item. Close it to stop early.
    """
    waiting: deque[tuple[T, Future[bytes]]] = deque()
    held = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for item in items:
                while waiting and (len(waiting) >= 2 * AT_ONCE or held + size_of(item) > most_bytes):
                    done, future = waiting.popleft()
                    held -= size_of(done)
                    yield done, future.result
                waiting.append((item, pool.submit(load, item)))
                held += size_of(item)
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result
        finally:
            for _, future in waiting:
                future.cancel()


def _reason(error: Exception) -> str:
    """The first line says what was asked of the store; why it failed is often only in those that follow."""
    text = str(error).strip()
    lines = text.splitlines() or [type(error).__name__]
    told = next((told for kind, told in _KINDS.items() if kind in text), "")
    return lines[0][:300] + told


def open_store(settings: "Settings", files: FileOps | None = None) -> ObjectStore:
    """The store that `lake_url` names. A folder is made; a bucket has to be there."""
    parts = urlsplit(settings.lake_url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        local = LocalStore(folder, mkdir=True, automatic_cleanup=True)
        return ObjectStore(lambda steps: local, settings.lake_url, DurableFolder(folder, files))

    def bucket(steps: int) -> S3Store:
        timeout = timedelta(seconds=settings.lake_timeout_s * steps)
        return S3Store(
            parts.netloc,
            prefix=parts.path.strip("/") or None,
            config=_s3_config(settings),
            client_options={
                "allow_http": (settings.s3_endpoint or "").startswith("http://"),
                "timeout": timeout,
                "connect_timeout": timedelta(seconds=min(_CONNECT_TIMEOUT_S, settings.lake_timeout_s)),
            },
            # A try that begins within `timeout` may take as long again: twice the timeout is the worst case.
            retry_config={
                "max_retries": _RETRIES,
                "retry_timeout": timeout,
                "backoff": {"max_backoff": timedelta(seconds=_LONGEST_BACKOFF_S)},
            },
        )

    return ObjectStore(bucket, settings.lake_url, None)


def _s3_config(settings: "Settings") -> "S3Config":
    """Without keys in the settings the machine's own role is used."""
    config: S3Config = {
        "region": settings.s3_region,
        # Path style is what every S3 understands when it is reached by an endpoint of its own.
        "virtual_hosted_style_request": settings.s3_endpoint is None,
    }
    if settings.s3_endpoint is not None:
        config["endpoint"] = settings.s3_endpoint
    if settings.s3_access_key_id is not None and settings.s3_secret_access_key is not None:
        config["access_key_id"] = settings.s3_access_key_id
        config["secret_access_key"] = settings.s3_secret_access_key
    return config
