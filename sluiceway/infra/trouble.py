"""What failed, in words that anyone who may see the platform's health may read: nobody's data, no secret.

A database's message can quote a row's values or a tenant's table, so only what a connection says of itself
is passed on word for word. Not here: what is answered to clients (`kit.errors`).
"""

import random
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from sluiceway.kit.errors import SluicewayError

MOST_CHARACTERS = 300
_SPACE = re.compile(r"\s+")
_IN_URL = re.compile(r"(\w://)[^\s/?#]*@")
_AS_OPTION = re.compile(r"(?i)\b(password|passwd|secret)\s*=\s*('[^']*'|[^\s&]+)")


def without_credentials(text: str) -> str:
    """The text, with what stands before the `@` of addresses in it, and passwords given by name, masked."""
    return _AS_OPTION.sub(r"\1=***", _IN_URL.sub(r"\1***@", text))


def describe(error: BaseException) -> str:
    """One short sentence without a full stop."""
    inner = getattr(error, "orig", None) if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(inner, psycopg.Error):
        state = inner.sqlstate
        if state is None and isinstance(inner, psycopg.OperationalError | psycopg.InterfaceError):
            first = str(inner).strip().split("\n", 1)[0]
            told = without_credentials(_SPACE.sub(" ", first))
            return told[:MOST_CHARACTERS] or type(inner).__name__
        return type(inner).__name__ if state is None else f"{type(inner).__name__}, SQLSTATE {state}"
    if isinstance(error, SluicewayError):
        return f"{error.title} ({error.code})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def growing_pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """How long to wait after so many failures in a row, from 1: doubling, up to a fifth more or less, so that
    those who failed together do not all come back at once."""
    pause_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, guards nothing


@dataclass(slots=True)
class Trouble:
    """Since when something fails without having gone well in between, how often, and why."""

    failures: int = 0
    since: datetime | None = None
    reason: str | None = None

    def failed(self, error: BaseException, now: datetime) -> None:
        self.failures += 1
        self.since = self.since or now
        self.reason = describe(error)

    def went_well(self) -> None:
        self.failures = 0
        self.since = self.reason = None

    def as_dict(self) -> dict[str, Any] | None:
        """For a process's report; None while all is well."""
        if self.since is None:
            return None
        return {"failures": self.failures, "since": self.since.isoformat(), "reason": self.reason}
