"""How records and segment headers lie on disk. Pure: bytes in, bytes out.

A segment is a header of 32 bytes and then records, one after another, all numbers little-endian:

    segment   magic "SLWSPOOL" | version u32 | marker 4 bytes | segment number u64 | 4 zero bytes | crc32c u32
    record    marker 4 bytes | crc32c u32 | length u32 | received_us i64 | workspace i32 | pipeline i32
              | events u32 | size of headers u32 | form u8 | 3 zero bytes | headers (JSON) | body

`length` counts headers and body; a record's CRC covers everything behind it. The marker is random for each
segment and known to no client, so that after damage the next record can be found by looking for it, and
no body can pass for one.
"""

import mmap
import struct
from collections.abc import Mapping
from typing import NamedTuple

import google_crc32c
import orjson

from sluiceway.ingestion.contracts import Form, Position, SpoolRecord

Buffer = bytes | mmap.mmap
MAGIC = b"SLWSPOOL"
VERSION = 1
MARKER_BYTES = 4
_SEGMENT = struct.Struct("<8sI4sQ4x")
_RECORD = struct.Struct("<IqiiIIB3x")  # what follows marker and CRC
_CRC = struct.Struct("<I")
_WHOLE = struct.Struct("<4sIIqiiIIB3x")  # a record's header from its marker on
SEGMENT_HEADER_BYTES = _SEGMENT.size + _CRC.size
RECORD_HEADER_BYTES = MARKER_BYTES + _CRC.size + _RECORD.size
_PREFIX = MARKER_BYTES + _CRC.size
MAX_RECORD_BYTES = 2**31
_FORMS = {int(form): form for form in Form}


def segment_header(number: int, marker: bytes) -> bytes:
    fields = _SEGMENT.pack(MAGIC, VERSION, marker, number)
    return fields + _CRC.pack(google_crc32c.value(fields))


def marker_of(header: bytes) -> bytes | None:
    """The marker in a segment's header, or None if it is not a readable header of this version."""
    if len(header) < SEGMENT_HEADER_BYTES:
        return None
    fields, crc = header[: _SEGMENT.size], header[_SEGMENT.size : SEGMENT_HEADER_BYTES]
    if _CRC.pack(google_crc32c.value(fields)) != crc:
        return None
    magic, version, marker, _ = _SEGMENT.unpack(fields)
    return marker if magic == MAGIC and version == VERSION else None


def encode_head(
    marker: bytes,
    workspace_id: int,
    pipeline_id: int,
    received_us: int,
    form: int,
    events: int,
    headers: Mapping[str, str] | None,
    body: bytes,
) -> bytes:
    """A record up to its body, which follows unchanged."""
    extra = orjson.dumps(headers) if headers else b""
    fields = _RECORD.pack(
        len(extra) + len(body), received_us, workspace_id, pipeline_id, events, len(extra), form
    )
    crc = google_crc32c.extend(google_crc32c.value(fields + extra), body)
    return b"".join((marker, _CRC.pack(crc), fields, extra))


def size_of(headers: Mapping[str, str] | None, body: bytes) -> int:
    """Bytes of a record on disk, exact when it has no headers and an upper bound otherwise."""
    extra = sum(6 * (len(k) + len(v)) + 6 for k, v in headers.items()) + 2 if headers else 0
    return RECORD_HEADER_BYTES + extra + len(body)


def whole_length(data: Buffer, at: int, marker: bytes) -> int | None:
    """Bytes of the record that begins at `at` by its own account; None if no record's header is there."""
    if len(data) - at < RECORD_HEADER_BYTES or data[at : at + MARKER_BYTES] != marker:
        return None
    length = int.from_bytes(data[at + _PREFIX : at + _PREFIX + 4], "little")
    return RECORD_HEADER_BYTES + length if length < MAX_RECORD_BYTES else None


def is_valid(data: Buffer, at: int, size: int) -> bool:
    """Whether the `size` bytes at `at` are what their CRC says."""
    found = _CRC.unpack_from(data, at + MARKER_BYTES)[0]
    return bool(found == google_crc32c.value(data[at + _PREFIX : at + size]))


class Head(NamedTuple):
    """Where an undamaged record lies in what was read (`size` in bytes), and what its header says."""

    at: int
    size: int
    received_us: int
    pipeline_id: int
    events: int


def walk(data: bytes, marker: bytes) -> tuple[list[Head], int, int | None]:
    """The undamaged records that `data` begins with, and where they end.

    Third, how many bytes of the next record must be there to go on; None if no record follows.
    """
    heads: list[Head] = []
    at, have = 0, len(data)
    unpack, crc_of, header, prefix = _WHOLE.unpack_from, google_crc32c.value, RECORD_HEADER_BYTES, _PREFIX
    while have - at >= header:
        found, crc, length, received_us, _, pipeline_id, events, _, _ = unpack(data, at)
        if found != marker or length >= MAX_RECORD_BYTES:
            return heads, at, None
        size = header + length
        if at + size > have:
            return heads, at, size
        if crc != crc_of(data[at + prefix : at + size]):
            return heads, at, None
        heads.append(Head(at, size, received_us, pipeline_id, events))
        at += size
    return heads, at, header if at < have else None


def decode(data: bytes, head: Head, position: Position) -> SpoolRecord | None:
    """The record that `walk` found at `head`, or None if it is of a form that is not known here."""
    at, size = head.at, head.size
    _, _, _, received_us, workspace_id, pipeline_id, events, extra, form = _WHOLE.unpack_from(data, at)
    begin = at + RECORD_HEADER_BYTES
    if form not in _FORMS or begin + extra > at + size:
        return None
    return SpoolRecord(
        position=position,
        end=Position(position.segment, position.offset + size),
        workspace_id=workspace_id,
        pipeline_id=pipeline_id,
        received_us=received_us,
        form=_FORMS[form],
        headers=orjson.loads(data[begin : begin + extra]) if extra else {},
        events=events,
        body=data[begin + extra : at + size],
    )
