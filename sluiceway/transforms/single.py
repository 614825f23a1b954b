"""One event at a time: every rule, every reason. `bulk` gives the same rows faster where nothing is odd."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from sluiceway.catalog.contracts import IDEMPOTENCY_KEY
from sluiceway.kit.forms import FORM_TYPE, form_to_json, looks_like_json, media_type
from sluiceway.transforms.errors import CannotMap
from sluiceway.transforms.plan import FUTURE_LIMIT_US, MAX_ID_BYTES, Plan
from sluiceway.transforms.values import Mismatch, describe, to_text, to_timestamp

# A number too large for a double is infinite here: it matters only where a field reads it.
_DECODER = msgspec.json.Decoder(float_hook=float)


class Row(NamedTuple):
    """`event_us`: microseconds since 1970; `values` in the order of the plan's fields."""

    event_id: str
    event_us: int
    values: list[Any]


class Partial:
    """What was known of an event when it failed, for its dead letter."""

    __slots__ = ("event_id", "event_us")

    def __init__(self) -> None:
        self.event_id: str | None = None
        self.event_us: int | None = None


def parse(payload: bytes, max_event_bytes: int) -> dict[str, Any]:
    """The event as an object. Raises `CannotMap` of step parse."""
    if len(payload) > max_event_bytes:
        raise CannotMap(
            "parse",
            "event_too_large",
            f"The event has {len(payload)} bytes; an event may have {max_event_bytes}.",
        )
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise CannotMap("parse", "invalid_utf8", f"The event is not UTF-8: byte {error.start}.") from None
    try:
        event = _DECODER.decode(payload)
    except RecursionError:
        raise CannotMap("parse", "too_deep", "The event is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise CannotMap("parse", "malformed_json", f"The event is not JSON: {error}.") from None
    if type(event) is not dict:
        raise CannotMap("parse", "not_an_object", f"An event is a JSON object, not {describe(event)}.")
    return event


def is_form(payload: bytes, headers: Mapping[str, str]) -> bool:
    """Whether the payload came as a form. JSON that says so is none: a person mended the event."""
    found = headers.get("content-type")
    return found is not None and media_type(found) == FORM_TYPE and not looks_like_json(payload)


def _parse(payload: bytes, headers: Mapping[str, str], max_event_bytes: int) -> dict[str, Any]:
    if not headers or not is_form(payload, headers) or len(payload) > max_event_bytes:
        return parse(payload, max_event_bytes)
    text = form_to_json(payload)
    if text is None:
        raise CannotMap("parse", "malformed_form", "The form has no fields in UTF-8.")
    return parse(text, len(text))


def map_event(
    plan: Plan,
    payload: bytes,
    position: str,
    received_us: int,
    headers: Mapping[str, str],
    partial: Partial,
) -> Row:
    """The event's row. Raises `CannotMap`; `partial` then holds what was found before."""
    event = _parse(payload, headers, plan.max_event_bytes)
    event_id = find_id(plan, event, headers, position, payload)
    partial.event_id = event_id
    event_us = _find_time(plan, event, headers, received_us)
    partial.event_us = event_us
    values: list[Any] = []
    for field in plan.fields:
        found = field.path.find(event, headers)
        if found is None:
            if field.default is None and field.required:
                raise CannotMap(
                    "map",
                    "missing_field",
                    f"Field {field.name!r} is required, but {field.path.text} is missing.",
                )
            values.append(field.default)
            continue
        try:
            values.append(field.coerce(found))
        except Mismatch as error:
            raise CannotMap(
                "map",
                error.code,
                f"Field {field.name!r} should be {error.expected}, but is {describe(found)}.",
            ) from None
    return Row(event_id, event_us, values)


def find_id(plan: Plan, event: Any, headers: Mapping[str, str], position: str, payload: bytes) -> str:
    """The event's identity: by the pipeline's paths, else by its sender's, else one given to it."""
    if not plan.id_paths:
        return given_id(headers, position, payload)
    try:
        parts = _id_parts(plan, event, headers)
    except CannotMap:
        if plan.id_given:
            raise
        return given_id(headers, position, payload)
    if plan.id_of_request:
        parts[-1] = of_event(parts[-1], position)
    return join_id(parts)


def given_id(headers: Mapping[str, str], position: str, payload: bytes) -> str:
    """Of an event that has none: made of the request's Idempotency-Key, the event's index and a hash of its
    bytes, so that a request sent again is the same and other bytes under the same key are not; without a key,
    of where the event lies in the spool."""
    key = headers.get(IDEMPOTENCY_KEY) if headers else None
    if not key:
        return position.replace("/", "-")
    index = position.rpartition("/")[2]
    return join_id([key, index, hashlib.blake2b(payload, digest_size=16).hexdigest()])


def of_event(request_id: str, position: str) -> str:
    """The id of one event of a request that its sender named: a batch's events are not one another."""
    index = position.rpartition("/")[2]
    return request_id if index == "0" else f"{request_id}#{index}"


def _id_parts(plan: Plan, event: Any, headers: Mapping[str, str]) -> list[str]:
    parts: list[str] = []
    for path in plan.id_paths:
        found = path.find(event, headers)
        if found is None or found == "":
            raise CannotMap("map", "missing_identity", f"The event's id is missing: there is no {path.text}.")
        try:
            parts.append(to_text(found))
        except Mismatch as error:
            raise CannotMap(
                "map",
                error.code,
                f"The event's id at {path.text} should be {error.expected}, but is {describe(found)}.",
            ) from None
    return parts


def join_id(parts: list[str]) -> str:
    joined = parts[0] if len(parts) == 1 else "|".join(parts)
    if len(joined) * 4 <= MAX_ID_BYTES or len(joined.encode()) <= MAX_ID_BYTES:
        return joined
    return "sha256:" + hashlib.sha256(joined.encode()).hexdigest()


def _find_time(plan: Plan, event: Any, headers: Mapping[str, str], received_us: int) -> int:
    if plan.time_path is None:
        return received_us
    found = plan.time_path.find(event, headers)
    where = plan.time_path.text
    if found is None:
        raise CannotMap("map", "missing_time", f"The event's time is missing: there is no {where}.")
    try:
        event_us: int = to_timestamp(found)
    except Mismatch as error:
        raise CannotMap(
            "map",
            error.code,
            f"The event's time at {where} should be {error.expected}, but is {describe(found)}.",
        ) from None
    if not 0 <= event_us <= received_us + FUTURE_LIMIT_US:
        raise CannotMap(
            "map",
            "time_out_of_range",
            f"The event's time at {where} should be between 1970 and a day after it was received,"
            f" but is {describe(found)}.",
        )
    return event_us
