"""Cuts a request's body into its events, byte for byte as they were sent.

The loader and the lake both count events by this function, so that an index means the same event in both.
It never fails: what cannot be cut is one event, and parsing it says what is wrong.
"""

import msgspec

from sluiceway.transforms.contracts import BodyForm

_WHITESPACE = b" \t\r\n"
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


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


def _strip(line: bytes) -> bytes:
    return line.strip(_WHITESPACE)
