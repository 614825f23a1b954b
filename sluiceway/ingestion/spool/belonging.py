"""Whose a spool's folder is: the node it belongs to, who writes to it, who keeps it.

Belongs here: the folder's name for itself (`spool.json`), and its locks. A lock is the operating system's and
goes with its process. Not here: whether the database knows another folder by that name (`loading.claims`),
and who loads which pipeline (`loading.leases`).
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import uuid4

import orjson

from sluiceway.infra.settings import Settings
from sluiceway.ingestion.spool import segments

IDENTITY_FILE = "spool.json"
KEEPER_FILE = "keeper.lock"
DRAINED_FILE = "drained.json"
LOADERS = "loaders"
"""Folder in a spool's folder with a lock for each loader that reads it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`node`: under which cursors and bronze know the spool, wherever it lies. `id`: this very folder, made
    once at random; a copy has the same."""

    node: str
    id: str


def identify(folder: Path, node: str) -> Identity:
    """What the folder says it is; a new one is `node`'s from now on. Raises OSError."""
    path = folder / IDENTITY_FILE
    found = _read(path)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    fresh = _write(folder, Identity(node, uuid4().hex))
    try:
        if path.exists():  # unreadable: the disk was full, say
            fresh.replace(path)
        else:
            with suppress(FileExistsError):  # another process was first
                os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    _sync(folder)
    found = _read(path)
    if found is None:
        raise OSError(f"{path} cannot be read")
    return found


def rename(folder: Path, node: str) -> Identity:
    """The folder, with the id it has, is `node`'s from now on. No loader may be at it. Raises OSError."""
    found = Identity(node, identify(folder, node).id)
    _write(folder, found).replace(folder / IDENTITY_FILE)
    _sync(folder)
    return found


def known_as(folder: Path) -> Identity | None:
    """What the folder says it is; None if no loader has worked on it yet."""
    return _read(folder / IDENTITY_FILE)


def node_of(folder: Path) -> str:
    """Under which name cursors know the folder."""
    found = known_as(folder)
    return folder.name if found is None else found.node


def spool_folders(settings: Settings) -> Iterator[Path]:
    """Every folder that may be a spool: beside this node's own, and those that are named."""
    root = settings.spool_dir.parent
    found = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    yield from dict.fromkeys([*found, *(path for path in settings.spools if path.is_dir())])


def _write(folder: Path, identity: Identity) -> Path:
    # Synced: the database remembers the id, so that a folder that lost it would be another's for ever.
    fresh = folder / f"{IDENTITY_FILE}.{uuid4().hex}"
    with fresh.open("xb") as file:
        file.write(orjson.dumps({"node": identity.node, "id": identity.id}))
        file.flush()
        os.fsync(file.fileno())
    return fresh


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Identity | None:
    try:
        found = orjson.loads(path.read_bytes())
        return Identity(str(found["node"]), str(found["id"]))
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def lock(folder: Path, name: str) -> IO[bytes] | None:
    """The lock `name` of a folder, held until the file is closed; None if another process has it."""
    file = (folder / name).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def is_locked(folder: Path, name: str) -> bool:
    """Whether another process has the lock just now. Looking takes it for a moment."""
    if not (folder / name).exists():
        return False
    held = lock(folder, name)
    if held is None:
        return True
    held.close()
    return False


def has_writer(folder: Path) -> bool:
    return is_locked(folder, segments.LOCK_FILE)


def has_loader(folder: Path) -> bool:
    """Whether a process reads it to load it."""
    places = folder / LOADERS
    names = [path.name for path in places.iterdir()] if places.is_dir() else []
    return has_keeper(folder) or any(is_locked(places, name) for name in names)


def has_keeper(folder: Path) -> bool:
    """Whether a loader writes the spool's bronze and trims it."""
    return is_locked(folder, KEEPER_FILE)


def _newest(folder: Path) -> dict[str, int] | None:
    present = segments.numbers(folder)
    if not present:
        return None
    return {"segment": present[-1], "size_bytes": segments.path_of(folder, present[-1]).stat().st_size}


def mark_drained(folder: Path) -> None:
    """All that lies in the folder is loaded and in the lake; the writer's lock should be held."""
    document = {"drained_at": round(time.time(), 3), **(_newest(folder) or {})}
    fresh = folder / f"{DRAINED_FILE}.new"
    fresh.write_bytes(orjson.dumps(document))
    fresh.replace(folder / DRAINED_FILE)


def is_drained(folder: Path) -> bool:
    """Whether nothing has been written since the folder was marked, or nothing ever was."""
    try:
        newest = _newest(folder)
        if newest is None:
            return True
        found = orjson.loads((folder / DRAINED_FILE).read_bytes())
        return all(found.get(name) == value for name, value in newest.items())
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return False
