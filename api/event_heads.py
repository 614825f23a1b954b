"""The heads of plain event requests, understood once: clients send the same again and again.

A head is everything up to the empty line. Bytes that were parsed once mean the same the next time, so what
they mean is kept by their SHA-256 (the keys in them are not). Belongs here: which requests are plain. Not
here: what becomes of them (`api.event_protocol`), who may send (`ingestion.access`).
"""

import hashlib
import re
from dataclasses import dataclass

import httptools

from sluiceway.ingestion.access import access_name
from sluiceway.ingestion.bodies import is_ndjson
from sluiceway.kit.errors import SluicewayError

START = b"POST /v1/pipelines/"
MOST_HEAD_BYTES = 2048
MOST_HEADS = 4096
MOST_HEADERS = 50
_PATH = re.compile(rb"/v1/pipelines/([a-z0-9][a-z0-9_-]*)/events")
_KEY = b"bearer slw_"
# A request with one of these is not plain: something has to be done about it first (`origin`: it is a
# page's, and its pipeline says which sites may).
_UNUSUAL = frozenset(
    {
        b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer",
        b"http2-settings", b"origin",
    }
)  # fmt: skip
# Nothing that proves who someone is outlives its request.
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


@dataclass(frozen=True, slots=True)
class PlainHead:
    """What a plain request says before its body.

    `name`: of the key and the pipeline, as `AccessCache.known_as` takes it. `length`: bytes of the body.
    `headers`: lower-case names; none that carries a secret.
    """

    name: tuple[bytes, str]
    ndjson: bool
    length: int
    headers: tuple[tuple[bytes, bytes], ...]


class HeadBook:
    """Heads seen lately, plain or not. For one event loop."""

    def __init__(self, most: int = MOST_HEADS) -> None:
        self._most = most
        self._known: dict[bytes, PlainHead | None] = {}

    def read(self, head: bytes) -> PlainHead | None:
        """What a head says, the empty line included; None: it is not plain, or not HTTP."""
        digest = hashlib.sha256(head).digest()
        try:
            return self._known[digest]
        except KeyError:
            pass
        found = parse(head)
        if len(self._known) >= self._most:
            self._known.clear()  # somebody's heads differ all the time: the others are back at once
        self._known[digest] = found
        return found

    def __len__(self) -> int:
        return len(self._known)


def parse(head: bytes) -> PlainHead | None:
    """One head, by the parser that all other requests go through."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if not reader.complete or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
        return None
    path = _PATH.fullmatch(reader.url)
    if path is None or not parser.should_keep_alive():
        return None
    return _plain(path[1].decode("ascii"), reader.headers)


def _plain(slug: str, headers: list[tuple[bytes, bytes]]) -> PlainHead | None:
    if len(headers) > MOST_HEADERS:
        return None  # what is kept is bounded, and the ordinary way says how many there may be
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _UNUSUAL or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
        if name in found and name in (b"authorization", b"content-type", b"content-length"):
            return None
        found[name] = value
    authorization = found.get(b"authorization", b"")
    length = found.get(b"content-length", b"")
    if authorization[: len(_KEY)].lower() != _KEY or not length.isdigit() or len(length) > 9:
        return None
    try:
        ndjson = is_ndjson(found.get(b"content-type", b"").decode("latin-1"))
    except SluicewayError:
        return None
    kept = tuple((name, value) for name, value in headers if name not in _SECRET)
    return PlainHead(access_name(authorization, slug), ndjson, int(length), kept)


class _Reader:
    """What httptools calls."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True
