"""Undoing a content encoding without ever holding much more than the limit (a bomb stops early)."""

import zlib

import zstandard

from sluiceway.ingestion.errors import (
    BodyTooLarge,
    BrokenCompression,
    CompressionRatio,
    TooManyMembers,
    UnknownContentEncoding,
)
from sluiceway.kit.errors import SluicewayError

ENCODINGS = ("gzip", "zstd")
# What RFC 9659 asks every sender of zstd over HTTP to stay within.
_ZSTD_WINDOW_BYTES = 8 * 1024 * 1024
# The most that 4 bytes of zstd can become is one block of 128 KiB.
_ZSTD_RATIO = 128 * 1024 // 4
MOST_RATIO = 100
"""Events compress 5 to 30 times. What becomes more than so many times as long is made to cost us memory."""
RATIO_FREE_BYTES = 1024 * 1024
"""Up to this length nobody is asked how well it compressed."""
MOST_MEMBERS = 65_536
"""Gzip members, or zstd frames, of one body: each costs its work, however little is in it."""
_FIRST_BITE_BYTES = 1024
_MOST_BITE_BYTES = 1024 * 1024


def known_encoding(value: str) -> str | None:
    """`gzip`, `zstd` or None for none. Raises `UnknownContentEncoding`."""
    name = value.strip().lower()
    if name in ("", "identity"):
        return None
    if name == "x-gzip":
        return "gzip"
    if name not in ENCODINGS:
        raise UnknownContentEncoding("Content-Encoding may be gzip, zstd or identity.")
    return name


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before `encoding`; several frames or members in a row are one body.

    Raises `BodyTooLarge` over `limit` bytes, `CompressionRatio` over `MOST_RATIO` times its length (and
    `RATIO_FREE_BYTES`), `TooManyMembers`, `BrokenCompression` if it is damaged or cut short.
    """
    by_ratio = max(RATIO_FREE_BYTES, MOST_RATIO * len(data))
    most = min(limit, by_ratio)
    try:
        found = _gunzip(data, most) if encoding == "gzip" else _unzstd(data, most)
    except _TooMuch:
        raise (_ratio() if by_ratio < limit else too_large(limit)) from None
    except (zlib.error, zstandard.ZstdError) as error:
        raise BrokenCompression(f"The body is not valid {encoding}: {error}.") from None
    if found is None:
        raise BrokenCompression(f"The {encoding} body ends too early.")
    return found


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"A body may have {limit} bytes, decompressed.", extra={"limit_bytes": limit})


class _TooMuch(Exception):
    """More came out than may."""


def _ratio() -> SluicewayError:
    return CompressionRatio(
        f"A compressed body may become {MOST_RATIO} times as long, or {RATIO_FREE_BYTES} bytes if more.",
        extra={"limit_ratio": MOST_RATIO},
    )


def _gunzip(data: bytes, limit: int) -> bytes | None:
    parts: list[bytes] = []
    room = limit + 1
    view = memoryview(data)
    at = members = 0
    while at < len(data):
        members = _one_more(members)
        member = zlib.decompressobj(wbits=31)
        # What lies behind a member is given back as a copy: in bites, or many small ones cost their square.
        size = _FIRST_BITE_BYTES
        while at < len(data) and not member.eof:
            bite = view[at : at + size]
            part = member.decompress(bite, room)
            at += len(bite) - len(member.unused_data)
            parts.append(part)
            room -= len(part)
            if room <= 0:
                raise _TooMuch
            size = min(8 * size, _MOST_BITE_BYTES)
        if not member.eof:
            return None
    return b"".join(parts)


def _unzstd(data: bytes, limit: int) -> bytes | None:
    parts: list[bytes] = []
    room = limit
    at = frames = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    while at < len(data):
        frames = _one_more(frames)
        frame = decompressor.decompressobj()
        while at < len(data) and not frame.eof:
            # Small enough bites that one cannot become more than the room that is left, or 2 MiB.
            bite = data[at : at + max(64, room // _ZSTD_RATIO)]
            part = frame.decompress(bite)
            at += len(bite) - len(frame.unused_data)
            parts.append(part)
            room -= len(part)
            if room < 0:
                raise _TooMuch
        if not frame.eof:
            return None
    return b"".join(parts)


def _one_more(members: int) -> int:
    if members == MOST_MEMBERS:
        raise TooManyMembers(
            f"A compressed body may have {MOST_MEMBERS} gzip members or zstd frames: put more into each.",
            extra={"limit_members": MOST_MEMBERS},
        )
    return members + 1
