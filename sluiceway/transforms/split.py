"""Cuts a request's body into its events, and an event into its items, byte for byte as they were sent.

The loader and the lake both count events by this function, so that an index means the same event in both.
It never fails: what cannot be cut is one event, and parsing it says what is wrong.
"""

from collections.abc import Sequence

import msgspec

from sluiceway.transforms.contracts import BodyForm

_WHITESPACE = b" \t\r\n"
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def split(form: int, body: bytes) -> list[bytes]:
    """The events of `body`, in order: one object, the items of an array, or the lines that are not blank."""
    if form == BodyForm.NDJSON:
        return [line for line in map(_strip, body.split(b"\n")) if line]
    if form == BodyForm.ARRAY:
        try:
            return [bytes(item) for item in _ITEMS.decode(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return [body]
    return [body]


def find_items(payload: bytes, keys: Sequence[str]) -> list[msgspec.Raw] | None:
    """The items of the array at `keys` (the path of `source.split`), or None where there is no such array."""
    found: bytes | msgspec.Raw = payload
    try:
        for key in keys:
            step = _MEMBERS.decode(found).get(key)
            if step is None:
                return None
            found = step
        return _ITEMS.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _strip(line: bytes) -> bytes:
    return line.strip(_WHITESPACE)
