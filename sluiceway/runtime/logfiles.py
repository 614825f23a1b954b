"""Log files of child processes: opened for appending, kept small and for a time by copying and truncating.

The children hold the file open, so renaming it would change nothing: its content is copied instead.
"""

import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10 * 1024 * 1024
KEPT = 3
_DAY = re.compile(rb"(?m)^\W{0,3}(\d{4}-\d{2}-\d{2})(?!\d)")


def open_log(folder: Path, name: str) -> BinaryIO:
    """The log `<name>.log`, for a child's output."""
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"{name}.log").open("ab", buffering=0)


def rotate(folder: Path, max_bytes: int = MAX_BYTES, max_days: int | None = None) -> None:
    """Move what is in logs above `max_bytes` to `<name>.log.1`, `.2`, `.3`.

    `max_days`: a log whose first line is older is moved as well, and what was moved so long ago is removed.
    """
    oldest = None if max_days is None else time.time() - 86_400 * max_days
    if oldest is not None:
        for moved in folder.glob("*.log.*"):
            if moved.stat().st_mtime < oldest:
                moved.unlink()
    for path in folder.glob("*.log"):
        old = oldest is not None and _began_before(path, oldest)
        if path.stat().st_size <= max_bytes and not old:
            continue
        for number in range(KEPT - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as file:
            file.truncate(0)


def _began_before(path: Path, moment: float) -> bool:
    """Whether the first line that tells its day is of a day before; a log without any never is."""
    with path.open("rb") as file:
        found = _DAY.search(file.read(4096))
    if found is None:
        return False
    try:
        day = datetime.strptime(found[1].decode(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return day.timestamp() + 86_400 < moment


def last_line(folder: Path, name: str, limit: int = 300) -> str:
    """The last line of a log that says something, shortened to `limit` characters."""
    path = folder / f"{name}.log"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        lines = file.read().decode(errors="replace").splitlines()
    found = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return found if len(found) <= limit else found[: limit - 1] + "…"
