"""The object store under the lake: a folder or a bucket behind one small face. Private to the slice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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

    from sluiceway.infra.settings import Settings

_PART_BYTES = 16 * 1024 * 1024
_RETRIES = 3


class ObjectStore:
    """Whole objects by path. Raises `LakeUnavailable`; a missing object is a `FileNotFoundError`."""

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
        with self._errors():
            return bytes(obstore.get(self._store, path).bytes())

    def list(self, prefix: str) -> "list[ObjectMeta]":
        with self._errors():
            return [item for chunk in obstore.list(self._store, prefix, chunk_size=1000) for item in chunk]

    def list_folders(self, prefix: str) -> list[str]:
        """Paths of the folders directly under `prefix`."""
        with self._errors():
            return list(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

    def delete(self, paths: list[str]) -> None:
        """Remove objects; one that is gone already is fine."""
        with self._errors():
            for path in paths:
                try:
                    obstore.delete(self._store, path)
                except FileNotFoundError:
                    continue

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            text = str(error).strip().splitlines()
            reason = text[0][:300] if text else type(error).__name__
            raise LakeUnavailable(f"The lake at {self._shown} cannot be used: {reason}") from error


def open_store(settings: "Settings") -> ObjectStore:
    """The store that `lake_url` names. A folder is made; a bucket has to be there."""
    parts = urlsplit(settings.lake_url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        return ObjectStore(LocalStore(folder, mkdir=True), settings.lake_url, folder)
    store = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        region=settings.s3_region,
        # Path style is what every S3 understands when it is reached by an endpoint of its own.
        virtual_hosted_style_request=settings.s3_endpoint is None,
        client_options={
            "allow_http": (settings.s3_endpoint or "").startswith("http://"),
            "timeout": timedelta(seconds=60),
            "connect_timeout": timedelta(seconds=5),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=20)},
        **({"endpoint": settings.s3_endpoint} if settings.s3_endpoint else {}),
        **_credentials(settings),
    )
    return ObjectStore(store, settings.lake_url, None)


def _credentials(settings: "Settings") -> dict[str, str]:
    """Those of the settings; without them the machine's own role is used."""
    if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
        return {}
    return {
        "access_key_id": settings.s3_access_key_id,
        "secret_access_key": settings.s3_secret_access_key,
    }


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
