"""Reading and comparing signatures. Pure; every failure is one of `senders.errors`.

A signature is read to bytes of the one right length before it is compared, so that what is cut, padded or
endless is told apart from what does not fit, and nothing odd ever reaches a comparison.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from sluiceway.ingestion.senders.contracts import Headers
from sluiceway.ingestion.senders.errors import (
    SignatureInvalid,
    SignatureMalformed,
    SignatureMissing,
    SignatureStale,
)

Algorithm = Literal["sha1", "sha256", "sha512"]
Encoding = Literal["hex", "base64"]

MAX_HEADER_BYTES = 4096
MAX_SIGNATURES = 32
MAX_TIMESTAMP_BYTES = 40
SIZES: dict[str, int] = {"sha1": 20, "sha256": 32, "sha512": 64}
_HEX = frozenset(b"0123456789abcdefABCDEF")
_MILLISECONDS = 10**11  # as seconds: the year 5138


def header(headers: Headers, name: bytes) -> bytes | None:
    """The one value of a header. Raises `SignatureMalformed` if it was sent twice or is too long."""
    found = None
    for key, value in headers:
        if key == name:
            if found is not None:
                raise SignatureMalformed(f"The header {name.decode('latin-1')} was sent more than once.")
            found = value
    if found is not None and len(found) > MAX_HEADER_BYTES:
        raise SignatureMalformed(
            f"The header {name.decode('latin-1')} has more than {MAX_HEADER_BYTES} bytes."
        )
    return found


def required(headers: Headers, name: bytes) -> bytes:
    """As `header`, stripped. Raises `SignatureMissing` if it is not there or empty."""
    found = (header(headers, name) or b"").strip()
    if not found:
        raise SignatureMissing(f"The delivery has no header {name.decode('latin-1')}.")
    return found


def digest(key: bytes, message: bytes, algorithm: Algorithm) -> bytes:
    return hmac.digest(key, message, algorithm)


def read_signature(text: bytes, encoding: Encoding, size: int) -> bytes:
    """The bytes of one signature. Raises `SignatureMalformed`."""
    if encoding == "hex":
        if len(text) == 2 * size and _HEX.issuperset(text):
            return bytes.fromhex(text.decode("ascii"))
        raise SignatureMalformed(f"The signature should be {2 * size} hexadecimal digits.")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    # Spare bits behind the last byte would let many texts be one signature.
    if len(found) != size or base64.b64encode(found) != text:
        raise SignatureMalformed(f"The signature should be {size} bytes in base64.")
    return found


def one_fits(expected: Iterable[bytes], given: Sequence[bytes]) -> bool:
    """Whether any given signature is any expected one. As long for a hit as for a miss."""
    fits = False
    for right in expected:
        for signature in given:
            fits |= hmac.compare_digest(right, signature)
    return fits


def check_fits(expected: Iterable[bytes], given: Sequence[bytes]) -> None:
    """Raises `SignatureInvalid`."""
    if not one_fits(expected, given):
        raise SignatureInvalid("The signature fits none of the pipeline's secrets and these bytes.")


def read_timestamp(text: bytes) -> float:
    """Unix seconds of a time in seconds, in milliseconds or in ISO 8601. Raises `SignatureMalformed`."""
    if len(text) <= 16 and text.isdigit():
        number = int(text)
        return number / 1000 if number >= _MILLISECONDS else float(number)
    try:
        if len(text) > MAX_TIMESTAMP_BYTES or text.isdigit():
            raise ValueError
        at = datetime.fromisoformat(text.decode("ascii"))
        if at.tzinfo is None:
            raise ValueError
        return at.timestamp()
    except (ValueError, OverflowError):
        raise SignatureMalformed("The signature's time cannot be read.") from None


def check_time(at_s: float, now_s: float, tolerance_s: int) -> None:
    """Raises `SignatureStale` for a time that is too far from now, in either direction.

    Asked after the signature was found to fit: only who knows the secret learns about our clock.
    """
    if abs(now_s - at_s) > tolerance_s:
        side = "old" if at_s < now_s else "far in the future"
        raise SignatureStale(
            f"The signature's time is too {side}: at most {tolerance_s} s from now are let through."
        )
