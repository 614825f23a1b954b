"""What is a body of events, and what exactly is wrong with one that is not."""

import gzip

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.ingestion.bodies import inspect, is_ndjson
from sluiceway.ingestion.compression import RATIO_FREE_BYTES, decompress, known_encoding
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.errors import (
    BodyTooLarge,
    BrokenCompression,
    CompressionRatio,
    UnknownContentEncoding,
    UnknownMediaType,
)
from sluiceway.kit.errors import SluicewayError

EVENT_LIMIT = 4000


def look(body: bytes, *, ndjson: bool = False) -> tuple[Form, int]:
    return inspect(body, ndjson=ndjson, max_event_bytes=EVENT_LIMIT)


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
        inspect(body, ndjson=ndjson, max_event_bytes=limit)
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


@given(events=events_strategy)
def test_any_valid_json_is_taken(events: list[dict[str, object]]) -> None:
    if any("\ud800" <= c <= "\udfff" for c in repr(events)):
        return
    lines = [msgspec.json.encode(event) for event in events]
    assert inspect(b"[" + b",".join(lines) + b"]", ndjson=False, max_event_bytes=1 << 20) == (
        Form.ARRAY, len(events),
    )  # fmt: skip
    if events:
        body = b"\n".join(lines)
        assert inspect(body, ndjson=True, max_event_bytes=1 << 20) == (Form.NDJSON, len(events))


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
def test_a_bomb_stops_at_the_limit(encoding: str) -> None:
    import tracemalloc

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
