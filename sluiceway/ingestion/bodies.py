"""From a request's body to what the spool keeps: which form it has, whether it is whole, how many events.

The body is checked from end to end (JSON grammar, UTF-8, sizes) and not changed; nothing of it is kept in
memory as objects, so an event of a million keys costs no more than its bytes. What the values mean is the
loader's question.
"""

from collections.abc import Callable, Sequence

import msgspec

from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.errors import (
    EmptyBody,
    EventTooLarge,
    InvalidEncoding,
    MalformedBody,
    MalformedForm,
    NestedTooDeep,
    NotAnEvent,
    TooManyEvents,
    UnknownMediaType,
)
from sluiceway.kit.errors import SluicewayError
from sluiceway.kit.forms import FORM_TYPE, Pairs, form_pairs, form_to_json, looks_like_json, media_type
from sluiceway.transforms.split import find_items
from sluiceway.transforms.split import split as split_body

NDJSON_TYPES = frozenset(
    {
        "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
        "application/jsonlines", "application/x-jsonlines", "application/json-lines",
    }
)  # fmt: skip
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_SPACE = b" \t\r\n"
_SLICE = 4096
# Lines of NDJSON beyond the events: blank ones are skipped, but each is looked at.
_BLANK_LINES = 10_000


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: a decoder for it walks over the members without making them."""


_one = msgspec.json.Decoder(_Object).decode
_many = msgspec.json.Decoder(list[_Object]).decode
_lines = msgspec.json.Decoder(_Object).decode_lines
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


def is_ndjson(content_type: str) -> bool:
    """Whether the media type is one of newline-delimited JSON; False: JSON, or none given.

    Raises `UnknownMediaType` for any other, and for another charset than UTF-8.
    """
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in _CHARSETS:
            raise UnknownMediaType("Send UTF-8: another charset is not understood.")
    if media in NDJSON_TYPES:
        return True
    if media in ("", "application/json") or (media.startswith("application/") and media.endswith("+json")):
        return False
    raise UnknownMediaType(
        "Send application/json (an object or an array), application/x-ndjson (an object a line) or"
        f" {FORM_TYPE} (one event)."
    )


def is_form(content_type: str) -> bool:
    """Whether the media type is a form's: to be asked before `is_ndjson`. Its record keeps `content-type`."""
    return media_type(content_type) == FORM_TYPE


def inspect(
    body: bytes,
    *,
    ndjson: bool,
    max_event_bytes: int,
    max_events: int,
    split: Sequence[str] | None = None,
    form: bool = False,
    pairs: Callable[[bytes], Pairs | None] = form_pairs,
) -> tuple[Form, int]:
    """The form of a whole body and how many events it holds (0 only for an empty array).

    `split`: the path of the array in each of them whose items the loader takes for the events. They are not
    what is counted, but a request has no more of them than `max_events` either.

    Raises `EmptyBody`, `InvalidEncoding`, `MalformedBody`, `NestedTooDeep`, `NotAnEvent`, `EventTooLarge`,
    `TooManyEvents`; for a form also `MalformedForm` and, where it is JSON after all, `UnknownMediaType`.
    """
    if form:
        _check_form(body, max_event_bytes, pairs)
        found = Form.FORM, 1
    else:
        found = _inspect_json(body, ndjson, max_event_bytes, max_events)
    if split is not None:
        _check_items(found, body, split, max_events)
    return found


def _inspect_json(body: bytes, ndjson: bool, max_event_bytes: int, max_events: int) -> tuple[Form, int]:
    _check_utf8(body)
    if ndjson:
        return Form.NDJSON, _count_lines(body, max_event_bytes, max_events)
    first = body[:64].lstrip(_SPACE)[:1] or body.lstrip(_SPACE)[:1]
    if first == b"[":
        return Form.ARRAY, _count_items(body, max_event_bytes, max_events)
    if not first:
        raise EmptyBody("The body holds no event.")
    if len(body) > max_event_bytes:
        raise _event_too_large(max_event_bytes)
    try:
        _one(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error) from None
    return Form.OBJECT, 1


def _check_form(body: bytes, max_event_bytes: int, read: Callable[[bytes], Pairs | None]) -> None:
    if looks_like_json(body):
        raise UnknownMediaType(
            "The body looks like JSON but is said to be a form: send it with Content-Type: application/json."
        )
    if len(body) > max_event_bytes:
        raise _event_too_large(max_event_bytes)
    pairs = read(body)
    if pairs is None:
        raise MalformedForm("The form should be name=value pairs joined by '&', percent-encoded UTF-8.")
    if not any(value for _, value in pairs):
        raise EmptyBody("The form holds no value.")


def _count_lines(body: bytes, max_event_bytes: int, max_events: int) -> int:
    if body.count(b"\n") > max_events + _BLANK_LINES:
        raise _too_many(max_events)  # before anything is made of each line
    count = _count_tidy_lines(body)
    if count is not None and count > max_events:
        raise _too_many(max_events)
    if count is not None and len(body) <= max_event_bytes:
        return count
    lines = body.split(b"\n")
    if lines[-1].strip(_SPACE) == b"":
        lines.pop()
    try:
        # In slices, so that another thread gets its turn within a large body.
        count = sum(len(list(map(_one, lines[i : i + _SLICE]))) for i in range(0, len(lines), _SLICE))
    except (msgspec.DecodeError, RecursionError):
        lines = _check_each(lines)
        count = len(lines)
    if count == 0:
        raise EmptyBody("The body holds no event.")
    if count > max_events:
        raise _too_many(max_events)
    if len(body) > max_event_bytes and max(map(len, lines)) > max_event_bytes:
        line = next(i for i, text in enumerate(lines, 1) if len(text) > max_event_bytes)
        raise _event_too_large(max_event_bytes, line=line)
    return count


def _count_tidy_lines(body: bytes) -> int | None:
    """The number of lines where all is as it nearly always is (twice as fast); None: look closer.

    Within one JSON value no `}` is followed by nothing but space and a `{`. So where every line break stands
    between these two, none is inside a value, and as many values as lines means one on each.
    """
    end = len(body) - 1 if body.endswith(b"\n") else len(body)
    breaks = body.count(b"\n", 0, end)
    if body.count(b"}\n{", 0, end) != breaks:
        return None
    try:
        count = len(_lines(body))
    except (msgspec.DecodeError, RecursionError):
        return None
    return count if count == breaks + 1 else None


def _check_each(lines: list[bytes]) -> list[bytes]:
    """The lines that are not blank. Raises for the first that is no event, with its number."""
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip(_SPACE):
            continue
        try:
            _one(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refusal(error, line=number) from None
        found.append(line)
    return found


def _count_items(body: bytes, max_event_bytes: int, max_events: int) -> int:
    try:
        count = len(_many(body))
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error) from None
    if count > max_events:
        raise _too_many(max_events)
    if len(body) > max_event_bytes:
        for index, item in enumerate(_items(body)):
            if len(memoryview(item)) > max_event_bytes:
                raise _event_too_large(max_event_bytes, index=index)
    return count


def _check_items(found: tuple[Form, int], body: bytes, split: Sequence[str], max_events: int) -> None:
    form, events = found
    # An array has an item more than commas: nearly always that settles it. In a form they may be escaped.
    most = len(body) // 2 if form is Form.FORM else body.count(b",") + events
    if most <= max_events:
        return
    pieces = [form_to_json(body) or b""] if form is Form.FORM else split_body(form, body)
    count = 0
    for piece in pieces:
        count += len(find_items(piece, split) or ())
        if count > max_events:
            raise _too_many(max_events)


def _check_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise InvalidEncoding(
            f"Byte {error.start} (line {line}) is not valid UTF-8.",
            extra={"line": line, "byte": error.start},
        ) from None


def _refusal(error: Exception, *, line: int | None = None) -> SluicewayError:
    where = "" if line is None else f"Line {line}: "
    extra = {} if line is None else {"line": line}
    if isinstance(error, RecursionError):
        return NestedTooDeep(f"{where}arrays and objects are nested too deep.", extra=extra)
    if isinstance(error, msgspec.ValidationError):
        return NotAnEvent(f"{where}an event is a JSON object: {_lower(error)}.", extra=extra)
    text = _lower(error).removeprefix("jSON is malformed: ")
    return MalformedBody(f"{where}the JSON is malformed: {text}.", extra=extra)


def _lower(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]


def _event_too_large(limit: int, *, line: int | None = None, index: int | None = None) -> SluicewayError:
    where = "The event"
    extra: dict[str, int] = {"limit_bytes": limit}
    if line is not None:
        where, extra["line"] = f"The event in line {line}", line
    if index is not None:
        where, extra["index"] = f"Event {index} of the array", index
    return EventTooLarge(f"{where} has more than {limit} bytes.", extra=extra)


def _too_many(limit: int) -> TooManyEvents:
    return TooManyEvents(
        f"A request to this pipeline may hold {limit} events: split it.", extra={"limit_events": limit}
    )
