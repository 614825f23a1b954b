"""Where a value is inside an event: `repository.full_name`, `items.0.price`, `/a.b/c`, `header:x-kind`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HEADER = "header:"


@dataclass(frozen=True, slots=True)
class Path:
    """A path, taken apart. Either `header` is set, or `keys` lead from the event's root to the value."""

    text: str
    keys: tuple[str, ...]
    header: str | None = None

    def find(self, event: Any, headers: Mapping[str, str]) -> Any:
        """The value, or None where it is null or not there. A number steps into an array, else into a key."""
        if self.header is not None:
            return headers.get(self.header)
        found = event
        for key in self.keys:
            if type(found) is dict:
                found = found.get(key)
            elif type(found) is list and key.isascii() and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                return None
        return found

    @property
    def plain(self) -> bool:
        """Whether every step is a key that cannot also be an array's index."""
        return self.header is None and not any(key.isdecimal() for key in self.keys)


def compile_path(text: str) -> Path:
    """Read a path as written in a pipeline. A JSON Pointer (RFC 6901) begins with a slash."""
    if text.startswith(HEADER):
        return Path(text, (), text.removeprefix(HEADER).lower())
    if text.startswith("/"):
        keys = [key.replace("~1", "/").replace("~0", "~") for key in text[1:].split("/")]
        return Path(text, tuple(keys))
    return Path(text, tuple(text.split(".")))
