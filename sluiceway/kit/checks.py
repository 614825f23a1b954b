"""Checks of what people typed in: all that is wrong is found first, and said at once, field by field."""

from collections.abc import Sequence
from datetime import datetime

from sluiceway.kit.errors import FieldError, SluicewayError


def name_problems(text: str, most: int, field: str = "name") -> list[FieldError]:
    """A name is there, is more than spaces, and has at most `most` characters."""
    fits = bool(text.strip()) and len(text) <= most
    return [] if fits else [FieldError(field, f"should have 1 to {most} characters")]


def length_problems(text: str, most: int, field: str = "description") -> list[FieldError]:
    """A text that may be empty has at most `most` characters."""
    return [] if len(text) <= most else [FieldError(field, f"should have at most {most} characters")]


def end_problems(at: datetime | None, now: datetime, field: str = "expires_at") -> list[FieldError]:
    """An end, where there is one, lies ahead."""
    return [FieldError(field, "should lie in the future")] if at is not None and at <= now else []


def refuse(error: type[SluicewayError], problems: Sequence[FieldError]) -> None:
    """Raise `error` with everything that is wrong in its sentence and by field; nothing if all is well."""
    if problems:
        raise error("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
