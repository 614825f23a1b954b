"""Shapes that every part of a pipeline's file is made of: strict models, durations, paths.

Belongs here: what `contracts`, `senders` and `limits` share. Not here: any part of the file itself.
"""

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_DURATION = re.compile(r"^(\d+)\s*(m|h|d|w|y)$")
_DURATION_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(value: object) -> object:
    """`90d` → 90 days; `y` is 365 days. Anything else goes on to pydantic unchanged."""
    if isinstance(value, str) and (match := _DURATION.match(value)):
        count, unit = int(match[1]), match[2]
        return timedelta(days=365 * count) if unit == "y" else timedelta(**{_DURATION_UNITS[unit]: count})
    if isinstance(value, timedelta):
        return value
    raise ValueError("should be a whole number and a unit: m, h, d, w or y (for example 90d)")


def format_duration(value: timedelta) -> str:
    minutes = int(value.total_seconds() // 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]
CREDENTIAL_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


def _no_credentials(path: str) -> str:
    """What paths read is kept in the spool and in bronze, where nobody looks for credentials."""
    if path.startswith("header:") and path.removeprefix("header:").strip().lower() in CREDENTIAL_HEADERS:
        names = ", ".join(sorted(CREDENTIAL_HEADERS))
        raise ValueError(f"should be no header that carries credentials ({names}): it would be kept")
    return path


EventPath = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_no_credentials)]
"""Where a value is: dotted keys (`repository.full_name`, `items.0.price`), a JSON Pointer (`/a.b/c`), or
`header:x-github-event` for a request header."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
