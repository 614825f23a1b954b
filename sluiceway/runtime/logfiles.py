"""Log files of child processes: opened for appending, kept small by copying and truncating.

The children hold the file open, so renaming it would change nothing: its content is copied instead.
"""

import shutil
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 10 * 1024 * 1024
KEPT = 3


def open_log(folder: Path, name: str) -> BinaryIO:
    """The log `<name>.log`, for a child's output."""
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / f"{name}.log").open("ab", buffering=0)


def rotate(folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Move what is in logs above `max_bytes` to `<name>.log.1`, `.2`, `.3`."""
    for path in folder.glob("*.log"):
        if path.stat().st_size <= max_bytes:
            continue
        for number in range(KEPT - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as file:
            file.truncate(0)


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
