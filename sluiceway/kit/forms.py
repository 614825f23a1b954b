"""Bodies of HTML forms (application/x-www-form-urlencoded): Twilio's webhooks, Slack's commands, GitHub's
older setting. Pure: bytes in, fields or JSON out."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec

FORM_TYPE = "application/x-www-form-urlencoded"
MAX_FIELDS = 10_000
_SPACE = b" \t\r\n"
Pairs = list[tuple[str, str]]
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def media_type(content_type: bytes | str) -> str:
    """Of a Content-Type header, lower case, without parameters."""
    text = content_type if isinstance(content_type, str) else content_type.decode("latin-1")
    return text.partition(";")[0].strip().lower()


def form_pairs(body: bytes) -> Pairs | None:
    """Names and values in order, empty values included; None where it is no form in UTF-8."""
    try:
        return parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        return None


class FormReader:
    """`form_pairs` for one request, whose signature and whose event need it: bytes are taken apart once."""

    __slots__ = ("_body", "_pairs")

    def __init__(self) -> None:
        self._body: bytes | None = None
        self._pairs: Pairs | None = None

    def __call__(self, body: bytes) -> Pairs | None:
        if body is not self._body:
            self._body, self._pairs = body, form_pairs(body)
        return self._pairs


def looks_like_json(body: bytes) -> bool:
    """Whether it was sent as a form by mistake, as curl does unless told otherwise."""
    return body[:64].lstrip(_SPACE)[:1] in (b"{", b"[")


def form_to_json(body: bytes) -> bytes | None:
    """The form as one JSON object: texts, and an array of them for a name that stands there several times.

    A form with the one field `payload` that holds a JSON object is that object, byte for byte (GitHub,
    Slack's interactions). None where it is no form, or one without any value.
    """
    pairs = form_pairs(body)
    if not pairs or not any(value for _, value in pairs):
        return None
    if len(pairs) == 1 and pairs[0][0] == "payload":
        inner = pairs[0][1].encode()
        try:
            _OBJECT.decode(inner)
        except (msgspec.MsgspecError, RecursionError):
            pass
        else:
            return inner
    found: dict[str, Any] = {}
    for name, value in pairs:
        known = found.get(name)
        if known is None:
            found[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            found[name] = [known, value]
    return msgspec.json.encode(found)
