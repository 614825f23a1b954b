"""The object store under the lake: a folder or a bucket behind one small face. Private to the slice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from sluiceway.lake.errors import LakeUnavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config

    from sluiceway.infra.settings import Settings

_PART_BYTES = 16 * 1024 * 1024
_RETRIES = 3


class ObjectStore:
    """Whole objects by path. Raises `LakeUnavailable`; `get` of a missing object `FileNotFoundError`."""

    def __init__(self, store: LocalStore | S3Store, shown: str, folder: Path | None) -> None:
        self._store = store
        self._shown = shown
        self._folder = folder

    def put(self, path: str, data: bytes) -> None:
        """Write the whole object; when this returns it is durable and no reader saw a part of it."""
        with self._errors():
            obstore.put(self._store, path, data, chunk_size=_PART_BYTES)
            if self._folder is not None:
                # The store renames a finished file into place but leaves it to the page cache.
                _sync(self._folder / path)
                for folder in (self._folder / path).parents:
                    _sync(folder)
                    if folder == self._folder:
                        break

    def get(self, path: str) -> bytes:
        with self._errors(missing=True):
            return bytes(obstore.get(self._store, path).bytes())

    def listing(self, prefix: str) -> "list[ObjectMeta]":
        with self._errors():
            return [item for chunk in obstore.list(self._store, prefix, chunk_size=1000) for item in chunk]

    def folders(self, prefix: str) -> list[str]:
        """Paths of the folders directly under `prefix`."""
        with self._errors():
            return list(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

    def delete(self, paths: list[str]) -> None:
        """Remove objects; one that is gone already is fine."""
        with self._errors():
            for path in paths:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, path)

    @contextmanager
    def _errors(self, *, missing: bool = False) -> Iterator[None]:
        """`missing`: a missing object is the caller's to handle; else it is a bucket that is not there."""
        try:
            yield
        except (BaseError, OSError) as error:
            if missing and isinstance(error, FileNotFoundError):
                raise
            text = str(error).strip().splitlines()
            reason = text[0][:300] if text else type(error).__name__
            raise LakeUnavailable(f"The lake at {self._shown} cannot be used: {reason}") from error


def open_store(settings: "Settings") -> ObjectStore:
    """The store that `lake_url` names. A folder is made; a bucket has to be there."""
    parts = urlsplit(settings.lake_url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        return ObjectStore(LocalStore(folder, mkdir=True, automatic_cleanup=True), settings.lake_url, folder)
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        config=_s3_config(settings),
        client_options={
            "allow_http": (settings.s3_endpoint or "").startswith("http://"),
            "timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=5),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=20)},
    )
    return ObjectStore(store, settings.lake_url, None)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
