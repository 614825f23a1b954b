"""Cursor pagination: a page of items and an opaque cursor that begins the next one.

A cursor is the sort key of the page's last item, so a page stays right while rows are added before it.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

import orjson
from fastapi import Query
from pydantic import BaseModel, Field

from sluiceway.kit.errors import InvalidInput

MAX_PAGE = 500
DEFAULT_PAGE = 50

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Most items on the page.")]
CursorParameter = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before; absent: the first page.")
]


class InvalidCursor(InvalidInput):
    code = "invalid_cursor"
    title = "The cursor is not one of ours"


class Page(BaseModel, Generic[Item]):
    """One page. `next_cursor` is null on the last one."""

    items: list[Item]
    next_cursor: str | None = Field(default=None, description="Send it back as `cursor`; null: no more.")


def encode(*key: object) -> str:
    """An opaque cursor over a sort key of strings, numbers, times and ids."""
    return base64.urlsafe_b64encode(orjson.dumps(key, default=str)).decode().rstrip("=")


def decode(cursor: str | None, *kinds: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """The sort key in a cursor, each part made by its kind (`uuid.UUID`, `datetime.fromisoformat`, `int`).

    None without a cursor. Raises `InvalidCursor`.
    """
    if cursor is None:
        return None
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(parts, list) or len(parts) != len(kinds):
            raise ValueError("another shape")
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise InvalidCursor("Send back `next_cursor` as it was given.") from None


def page(
    rows: Sequence[Any], limit: int, item: Callable[[Any], Item], key: Callable[[Any], Sequence[object]]
) -> Page[Item]:
    """A page from `limit + 1` rows asked for: the extra one tells that there is more."""
    kept = rows[:limit]
    more = len(rows) > limit
    return Page(items=[item(row) for row in kept], next_cursor=encode(*key(kept[-1])) if more else None)


def decode_newest(cursor: str | None, key: Callable[[Any], Any] = UUID) -> tuple[datetime, Any] | None:
    """`decode` for a list by `created_at` and `id`, the newest first (`sluiceway.infra.paging`)."""
    found = decode(cursor, datetime.fromisoformat, key)
    return None if found is None else (found[0], found[1])


def newest_page(rows: Sequence[Any], limit: int, item: Callable[[Any], Item]) -> Page[Item]:
    """`page` for such a list."""
    return page(rows, limit, item, lambda row: (row.created_at.isoformat(), row.id))
