"""One JSON value into one typed value: the rules of coercion, in one place.

The table in docs/loading.md and the cases in tests/support/transform_cases.py say the same. A value is
converted only where nothing is lost; anything else is a `Mismatch`, never a guess.
"""

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from sluiceway.catalog.contracts import FieldType

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Gold keeps sums of squares as doubles: 1e140 squared, a hundred million times, still fits.
NUMBER_MAX = 1e140
_EXACT_FLOAT = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,5})?", re.ASCII)
_UNIX = re.compile(r"[0-9]{10}([0-9]{3}|[0-9]{6})?(\.[0-9]{1,9})?", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_NUL_ESCAPE = b"\\u0000"

Coercion = Callable[[Any], Any]


class Mismatch(Exception):
    """The value is not of the type: `code` is stable, `expected` completes "should be …"."""

    def __init__(self, code: str, expected: str) -> None:
        super().__init__(expected)
        self.code = code
        self.expected = expected


def to_text(value: Any) -> str:
    """A string as it is; a number or boolean as its JSON text. PostgreSQL text cannot hold NUL."""
    kind = type(value)
    if kind is str:
        if "\0" in value:
            raise Mismatch("nul_character", "a text without the character U+0000")
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int or (kind is float and math.isfinite(value)):
        return repr(value)
    raise Mismatch("wrong_type", "a text")


def to_integer(value: Any) -> int:
    """A JSON integer; a number without a fraction below 2^53 (`5.0`); a text that spells an integer."""
    kind = type(value)
    if kind is str and _INTEGER.fullmatch(value):
        value, kind = int(value), int
    if kind is float and value.is_integer() and abs(value) < _EXACT_FLOAT:
        return int(value)
    if kind is not int:
        raise Mismatch("wrong_type", "a whole number")
    if not INT64_MIN <= value <= INT64_MAX:
        raise Mismatch("out_of_range", "a whole number of at most 64 bits")
    return int(value)


def to_number(value: Any) -> float:
    """A JSON number, or a text that spells one; finite."""
    if type(value) is str and _NUMBER.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float):
        raise Mismatch("wrong_type", "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Mismatch("not_finite", "a finite number")
    if abs(number) > NUMBER_MAX:
        raise Mismatch("out_of_range", "a number from -1e140 to 1e140")
    return number


def to_boolean(value: Any) -> bool:
    """true or false, or the texts "true" and "false"."""
    if type(value) is bool:
        return bool(value)
    if value == "true" or value == "false":
        return bool(value == "true")
    raise Mismatch("wrong_type", "true or false")


def to_timestamp(value: Any) -> int:
    """Microseconds since 1970 UTC.

    An ISO 8601 text (without an offset it is UTC), or Unix time as a number or as 10, 13 or 16 digits: below
    1e11 seconds, below 1e14 milliseconds, else microseconds.
    """
    kind = type(value)
    if kind is str:
        if _UNIX.fullmatch(value):
            return _unix_us(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Mismatch("wrong_time", "a time in ISO 8601 or Unix time") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        # From date and clock, not by astimezone: an offset may lead past year 1 or 9999.
        gap = moment - _EPOCH
        return _in_range((gap.days * 86400 + gap.seconds) * 1_000_000 + gap.microseconds)
    if kind is int or (kind is float and math.isfinite(value)):
        return _unix_us(value)
    raise Mismatch("wrong_time", "a time in ISO 8601 or Unix time")


def _unix_us(value: Any) -> int:
    if type(value) is str:
        whole, _, fraction = value.partition(".")
        value = float(value) if fraction else int(whole)
    size = abs(value)
    scale = 1_000_000 if size < 1e11 else 1_000 if size < 1e14 else 1
    return _in_range(round(value * scale))


def _in_range(microseconds: int) -> int:
    if not _FIRST_US <= microseconds <= _LAST_US:
        raise Mismatch("out_of_range", "a time in the years 1 to 9999 UTC")
    return microseconds


def to_date(value: Any) -> int:
    """Days since 1970 of a text `YYYY-MM-DD`."""
    if type(value) is str and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value).toordinal() - _EPOCH_DAY
        except ValueError:
            pass
    raise Mismatch("wrong_type", "a date written YYYY-MM-DD")


def to_json(value: Any) -> str:
    """Any value, as JSON text that jsonb takes (no U+0000, numbers finite)."""
    if not _finite(value):
        raise Mismatch("not_finite", "JSON whose numbers are finite")
    try:
        text = msgspec.json.encode(value)
    except (msgspec.MsgspecError, OverflowError, RecursionError):
        raise Mismatch("wrong_type", "JSON that can be written again") from None
    if _NUL_ESCAPE in text and _has_nul(value):
        raise Mismatch("nul_character", "JSON without the character U+0000")
    return text.decode()


def _finite(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is float and not math.isfinite(item):
            return False
        if type(item) is dict:
            waiting.extend(item.values())
        elif type(item) is list:
            waiting.extend(item)
    return True


def _has_nul(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is str and "\0" in item:
            return True
        if type(item) is dict:
            waiting.extend(item)
            waiting.extend(item.values())
        elif type(item) is list:
            waiting.extend(item)
    return False


COERCIONS: dict[FieldType, Coercion] = {
    FieldType.STRING: to_text,
    FieldType.INTEGER: to_integer,
    FieldType.NUMBER: to_number,
    FieldType.BOOLEAN: to_boolean,
    FieldType.TIMESTAMP: to_timestamp,
    FieldType.DATE: to_date,
    FieldType.JSON: to_json,
}


def describe(value: Any) -> str:
    """What a value is, for a reason: `the text 'abc'`, `the number 5.5`, `an array`."""
    kind = type(value)
    if kind is str:
        shown = value if len(value) <= 60 else value[:59] + "…"
        return f"the text {shown!r}"
    if kind is bool:
        return "true" if value else "false"
    if kind in (int, float):
        shown = repr(value)
        return f"the number {shown if len(shown) <= 60 else shown[:59] + '…'}"
    if kind is dict:
        return "an object"
    return "an array" if kind is list else "null"
