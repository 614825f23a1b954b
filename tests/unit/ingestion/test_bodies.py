"""What is a body of events, and what exactly is wrong with one that is not."""

import gzip
import random
import tracemalloc
import zlib
from urllib.parse import quote_plus

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluiceway.ingestion.bodies import inspect, is_ndjson
from sluiceway.ingestion.compression import MOST_MEMBERS, RATIO_FREE_BYTES, decompress, known_encoding
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.errors import (
    BodyTooLarge,
    BrokenCompression,
    CompressionRatio,
    TooManyEvents,
    TooManyMembers,
    UnknownContentEncoding,
    UnknownMediaType,
)
from sluiceway.kit.errors import SluicewayError

EVENT_LIMIT = 4000


def look(body: bytes, *, ndjson: bool = False) -> tuple[Form, int]:
    return inspect(body, ndjson=ndjson, max_event_bytes=EVENT_LIMIT, max_events=100_000)


@pytest.mark.parametrize(
    ("body", "ndjson", "form", "events"),
    [
        (b'{"a":1}', False, Form.OBJECT, 1),
        (b' \n {"a":1}\n', False, Form.OBJECT, 1),
        (b" " * 100 + b"[{}]", False, Form.ARRAY, 1),
        (b"[]", False, Form.ARRAY, 0),
        (b'[{"a":1},\n{"b":[1,{"c":null}]}]', False, Form.ARRAY, 2),
        (b'{"a":1}', True, Form.NDJSON, 1),
        (b'{"a":1}\r\n{"a":2}\r\n', True, Form.NDJSON, 2),
        (b'\n\n{"a":1}\n \n{"a":2}\n\n', True, Form.NDJSON, 2),
        ('{"ü":"😀"}'.encode(), False, Form.OBJECT, 1),
        (rb'{"nul":"\u0000"}', False, Form.OBJECT, 1),
        (b'{"big":' + b"9" * 400 + b',"e":1e999}', False, Form.OBJECT, 1),
        (b'{"a":' * 100 + b"1" + b"}" * 100, False, Form.OBJECT, 1),
    ],
)
def test_a_whole_body_is_told_and_counted(body: bytes, ndjson: bool, form: Form, events: int) -> None:
    assert look(body, ndjson=ndjson) == (form, events)


@pytest.mark.parametrize(
    ("body", "ndjson", "code"),
    [
        (b"", False, "empty_body"),
        (b" \n ", False, "empty_body"),
        (b"", True, "empty_body"),
        (b"\n\r\n \n", True, "empty_body"),
        (b"{", False, "malformed_json"),
        (b'{"a":1}{"a":2}', False, "malformed_json"),
        (b'{"a":1}\n{"a":2}', False, "malformed_json"),
        (b'{"a":1} {"a":2}', True, "malformed_json"),
        (b'{"a":1} {"a":2}\n{"a":\n1}', True, "malformed_json"),
        (b'{"a":1}{"a":2}\n{"a":{}\n}\n{}', True, "malformed_json"),
        (b'{"a":NaN}', False, "malformed_json"),
        (b'{"a":"\x00"}', False, "malformed_json"),
        (b"\x00", False, "malformed_json"),
        (b'{"a":01}', False, "malformed_json"),
        (rb'{"a":"\ud800"}', False, "malformed_json"),
        (b'\xef\xbb\xbf{"a":1}', False, "malformed_json"),
        (b"[{},]", False, "malformed_json"),
        (b'{"a":"\xff"}', False, "invalid_utf8"),
        (b'{"\xed\xa0\x80":1}', False, "invalid_utf8"),
        (b"1", False, "not_an_object"),
        (b'"text"', False, "not_an_object"),
        (b"null", False, "not_an_object"),
        (b"[1,2]", False, "not_an_object"),
        (b"[{},[]]", False, "not_an_object"),
        (b"[{}]", True, "not_an_object"),
        (b"[" * 5000, False, "not_an_object"),
        (b'{"a":' * 5000, True, "nested_too_deep"),
        (b'[{"a":' + b"[" * 5000, False, "nested_too_deep"),
        (b'{"a":"' + b"x" * EVENT_LIMIT + b'"}', False, "event_too_large"),
        (b'[{},{"a":"' + b"x" * EVENT_LIMIT + b'"}]', False, "event_too_large"),
        (b'{}\n{"a":"' + b"x" * EVENT_LIMIT + b'"}\n', True, "event_too_large"),
    ],
)
def test_what_is_wrong_has_its_own_code(body: bytes, ndjson: bool, code: str) -> None:
    limit = EVENT_LIMIT if code == "event_too_large" else 1 << 20
    with pytest.raises(SluicewayError) as raised:
        inspect(body, ndjson=ndjson, max_event_bytes=limit, max_events=100_000)
    assert raised.value.code == code
    assert 400 <= raised.value.status < 500
    assert "jSON" not in raised.value.detail


@pytest.mark.parametrize(
    ("body", "line"),
    [(b'{}\n{}\n{"a":\n{}', 3), (b'\n\n{}\n\n{"a" 1}\n', 5), (b"{}\n[]\n", 2), (b'{}\n\n{"a":"\xff"}\n', 3)],
)
def test_the_wrong_line_is_named(body: bytes, line: int) -> None:
    with pytest.raises(SluicewayError) as raised:
        look(body, ndjson=True)
    assert raised.value.extra["line"] == line
    assert f"ine {line}" in raised.value.detail


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
events_strategy = st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=6)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(events=events_strategy)
def test_any_valid_json_is_taken(events: list[dict[str, object]]) -> None:
    if any("\ud800" <= c <= "\udfff" for c in repr(events)):
        return
    lines = [msgspec.json.encode(event) for event in events]
    most = {"max_event_bytes": 1 << 20, "max_events": 100}
    assert inspect(b"[" + b",".join(lines) + b"]", ndjson=False, **most) == (Form.ARRAY, len(events))
    if events:
        assert inspect(b"\n".join(lines), ndjson=True, **most) == (Form.NDJSON, len(events))


@pytest.mark.parametrize(
    ("body", "ndjson", "events"),
    [
        (b"[{},{},{},{}]", False, 4),
        (b"{}\n{}\n{}\n{}", True, 4),
        (b'{"a":\t1}\n\n{}\r\n{ }\n{}\n', True, 4),
    ],
)
def test_no_more_events_than_a_request_may_hold(body: bytes, ndjson: bool, events: int) -> None:
    assert inspect(body, ndjson=ndjson, max_event_bytes=1 << 20, max_events=events)[1] == events
    with pytest.raises(TooManyEvents) as refused:
        inspect(body, ndjson=ndjson, max_event_bytes=1 << 20, max_events=events - 1)
    assert refused.value.extra == {"limit_events": events - 1}


ITEMS = b'{"d":{"orders":[1,2,3,4]}}'


@pytest.mark.parametrize(
    ("body", "how", "items"),
    [
        (ITEMS, {}, 4),
        (b"[" + ITEMS + b"," + ITEMS + b"]", {}, 8),
        (ITEMS + b"\n\n" + ITEMS + b"\n" + ITEMS, {"ndjson": True}, 12),
        (b"payload=" + quote_plus(ITEMS.decode()).encode(), {"form": True}, 4),
    ],
)
def test_no_more_items_than_a_request_may_hold_events(body: bytes, how: dict[str, bool], items: int) -> None:
    most = {"ndjson": False, "max_event_bytes": 1 << 20, "split": ("d", "orders"), **how}
    events = inspect(body, max_events=items, **most)
    assert events == inspect(body, max_events=items, **{**most, "split": None})
    with pytest.raises(TooManyEvents) as refused:
        inspect(body, max_events=items - 1, **most)
    assert refused.value.extra == {"limit_events": items - 1}


@pytest.mark.parametrize(
    "body", [b'{"d":1,"e":[1,2,3,4,5]}', b'{"d":{"orders":"1,2,3,4,5"}}', b'{"a":[1,2,3,4,5]}']
)
def test_commas_are_no_items(body: bytes) -> None:
    found = inspect(body, ndjson=False, max_event_bytes=1 << 20, max_events=2, split=("d", "orders"))
    assert found == (Form.OBJECT, 1)


@pytest.mark.parametrize("line", [b"{}\n", b"\n"])
def test_a_body_of_too_many_lines_costs_no_memory(line: bytes) -> None:
    """What is made of each line takes many times the body's own size."""
    body = b"{}\n" + line * 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(TooManyEvents):
            inspect(body, ndjson=True, max_event_bytes=1 << 20, max_events=100_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@given(
    body=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0019-eE.tfn \n', max_size=40).map(str.encode)
)
def test_what_is_taken_parses_and_what_is_refused_has_a_code(body: bytes) -> None:
    for ndjson in (False, True):
        try:
            form, events = look(body, ndjson=ndjson)
        except SluicewayError as error:
            assert error.status == 400
            continue
        parsed = (
            [msgspec.json.decode(line) for line in body.split(b"\n") if line.strip()]
            if form is Form.NDJSON
            else msgspec.json.decode(body)
        )
        assert (1 if form is Form.OBJECT else len(parsed)) == events


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", False),
        ("application/json", False),
        ("application/json; charset=utf-8", False),
        ('Application/JSON;charset="UTF-8"', False),
        ("application/cloudevents+json", False),
        ("application/x-ndjson", True),
        ("application/jsonl; charset=us-ascii", True),
    ],
)
def test_media_types(content_type: str, expected: bool) -> None:
    assert is_ndjson(content_type) is expected


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/json; charset=latin-1",
        "application/x-www-form-urlencoded",
    ],
)
def test_other_media_types_are_refused(content_type: str) -> None:
    with pytest.raises(UnknownMediaType):
        is_ndjson(content_type)


def compress(data: bytes, encoding: str) -> bytes:
    return gzip.compress(data) if encoding == "gzip" else zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_decompression(encoding: str) -> None:
    data = b"".join(b'{"n":%d}\n' % i for i in range(20_000))
    packed = compress(data, encoding)
    assert decompress(packed, encoding, len(data)) == data
    assert decompress(packed + compress(b"{}", encoding), encoding, len(data) + 2) == data + b"{}"
    with pytest.raises(BodyTooLarge):
        decompress(packed, encoding, len(data) - 1)
    for cut in (1, 5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(BrokenCompression):
            decompress(packed[:cut], encoding, len(data))
    with pytest.raises(BrokenCompression):
        decompress(packed + b"junk", encoding, len(data))
    with pytest.raises(BrokenCompression):
        decompress(data, encoding, len(data))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_members_of_any_size_in_a_row_are_one_body(encoding: str) -> None:
    chance = random.Random(20261121)
    parts = [chance.randbytes(chance.choice([0, 1, 900, 1023, 1024, 1025, 9000, 70_000])) for _ in range(200)]
    packed, whole = b"".join(compress(part, encoding) for part in parts), b"".join(parts)
    assert decompress(packed, encoding, len(whole)) == whole
    with pytest.raises(BodyTooLarge):
        decompress(packed, encoding, len(whole) - 1)
    with pytest.raises(BrokenCompression):
        decompress(packed[:-1], encoding, len(whole))


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_in_too_many_pieces_is_refused(encoding: str) -> None:
    """Each piece costs its work, whatever is in it: nothing but empty ones kept a core busy for minutes."""
    packed = compress(b"", encoding) * (MOST_MEMBERS - 1) + compress(b"{}", encoding)
    assert decompress(packed, encoding, 1 << 24) == b"{}"
    with pytest.raises(TooManyMembers) as refused:
        decompress(packed + compress(b"", encoding), encoding, 1 << 24)
    assert refused.value.extra == {"limit_members": MOST_MEMBERS}


def test_what_lies_behind_a_small_member_is_not_copied_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """The work grows with the body, not with its square: every byte is handed over a few times at most."""
    handed = 0
    make = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self.inner = make(wbits=wbits)

        def decompress(self, data: memoryview, room: int) -> bytes:
            nonlocal handed
            handed += len(data)
            return self.inner.decompress(data, room)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    monkeypatch.setattr("sluiceway.ingestion.compression.zlib.decompressobj", Counting)
    packed = compress(b"{}", "gzip") * 20_000
    assert decompress(packed, "gzip", 1 << 20) == b"{}" * 20_000
    assert handed < 50 * len(packed)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_stops_at_the_limit(encoding: str) -> None:
    bomb = compress(bytes(300_000_000), encoding)
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            decompress(bomb, encoding, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_what_grows_too_much_is_refused(encoding: str) -> None:
    limit = 1 << 30
    small = bytes(RATIO_FREE_BYTES)
    assert decompress(compress(small, encoding), encoding, limit) == small
    with pytest.raises(CompressionRatio):
        decompress(compress(small + b"\0", encoding), encoding, limit)
    with pytest.raises(CompressionRatio):  # hidden behind something harmless
        decompress(compress(b"{}", encoding) + compress(bytes(30_000_000), encoding), encoding, limit)
    dense = b"".join(b'{"n":%d,"text":"%s"}\n' % (i * 7919, b"x" * 300) for i in range(20_000))
    packed = compress(dense, encoding)
    assert len(dense) > 5 * RATIO_FREE_BYTES and len(dense) > 30 * len(packed)
    assert decompress(packed, encoding, limit) == dense


def test_a_zstd_window_larger_than_http_allows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=25)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = stream.compress(bytes(range(256)) * 200_000) + stream.flush()
    with pytest.raises(BrokenCompression):
        decompress(packed, "zstd", 1 << 30)


def test_content_encodings() -> None:
    assert [known_encoding(v) for v in ("", "identity", " GZIP", "x-gzip", "zstd")] == [
        None, None, "gzip", "gzip", "zstd",
    ]  # fmt: skip
    for value in ("br", "deflate", "gzip, gzip"):
        with pytest.raises(UnknownContentEncoding):
            known_encoding(value)
