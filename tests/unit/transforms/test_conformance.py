"""Both ways of mapping give the same rows and the same reasons."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluiceway.catalog.contracts import PipelineSpec
from sluiceway.transforms.contracts import Arrivals, Mapped
from sluiceway.transforms.service import Transform
from tests.support.transform_cases import BROKEN, REJECT, VALUES

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


def arrivals(*payloads: bytes) -> Arrivals:
    positions = [f"n/1/0/{i}" for i in range(len(payloads))]
    return Arrivals(payloads, positions, [NOW_US] * len(payloads), [{}] * len(payloads))


def spec_of(fields: list[dict[str, Any]], **event: Any) -> PipelineSpec:
    return PipelineSpec.model_validate({"name": "cases", "event": event, "fields": fields})


def both_ways(spec: PipelineSpec, given: Arrivals) -> Mapped:
    """What the two ways agree on; asserts that they do."""
    transform = Transform(spec)
    mixed = transform.run(given, NOW)
    transform._bulk = None
    single = transform.run(given, NOW)
    assert mixed.rows.equals(single.rows, null_equal=True)
    assert mixed.rows.schema == single.rows.schema
    assert mixed.rejected == single.rejected
    return single


@pytest.mark.parametrize(("kind", "text", "expected"), VALUES, ids=lambda v: str(v)[:30])
def test_value(kind: str, text: str, expected: Any) -> None:
    found = both_ways(spec_of([{"name": "v", "type": kind}]), arrivals(b'{"v":%s}' % text.encode()))
    if isinstance(expected, str) and expected.startswith(REJECT):
        (rejected,) = found.rejected
        assert (rejected.step, rejected.code) == ("map", expected.removeprefix(REJECT))
        assert "'v'" in rejected.reason
    else:
        assert found.rejected == []
        assert found.rows["v"].to_list() == [expected]


@pytest.mark.parametrize(("payload", "expected"), BROKEN, ids=lambda v: str(v)[:40])
def test_broken_event(payload: bytes, expected: str) -> None:
    good = b'{"id":"good","at":1700000000}'
    spec = spec_of([{"name": "v", "type": "string"}], id="id", time="at")
    found = both_ways(spec, arrivals(good, payload, good))
    assert [f"{r.step}:{r.code}" for r in found.rejected] == [expected]
    assert found.rejected[0].index == 1
    assert len(found.rejected[0].reason) <= 500
    assert found.rows["_index"].to_list() == [0, 2]


def test_a_million_keys_are_one_row() -> None:
    payload = b"{%s}" % b",".join(b'"k%d":1' % i for i in range(90_000))
    assert (
        both_ways(spec_of([{"name": "k89999", "type": "integer"}]), arrivals(payload)).rows["k89999"][0] == 1
    )


def test_missing_required_and_default() -> None:
    fields = [
        {"name": "must", "type": "integer", "required": True},
        {"name": "maybe", "type": "string", "default": "none"},
        {"name": "sure", "type": "integer", "required": True, "default": 7},
    ]
    found = both_ways(spec_of(fields), arrivals(b'{"must":1}', b"{}", b'{"must":null,"maybe":"x"}'))
    assert found.rows.select("must", "maybe", "sure").rows() == [(1, "none", 7)]
    assert [(r.index, r.code) for r in found.rejected] == [(1, "missing_field"), (2, "missing_field")]
    assert found.rejected[0].reason == "Field 'must' is required, but must is missing."


def test_identity_joins_paths_and_is_hashed_when_long() -> None:
    spec = spec_of([{"name": "n", "type": "integer"}, {"name": "x", "type": "number"}], id=["a.b", "n", "x"])
    long = b"y" * 300
    found = both_ways(
        spec,
        arrivals(
            b'{"a":{"b":"k"},"n":5,"x":5}',
            b'{"a":{"b":true},"n":5,"x":5.0}',
            b'{"a":{"b":"%s"},"n":1,"x":2}' % long,
        ),
    )
    ids = found.rows["event_id"].to_list()
    assert ids[:2] == ["k|5|5", "true|5|5.0"]
    assert ids[2].startswith("sha256:")
    assert len(ids[2]) == 71


def test_no_id_and_no_time_come_from_the_spool() -> None:
    found = both_ways(spec_of([{"name": "v", "type": "string"}]), arrivals(b"{}"))
    assert found.rows.select("event_id", "event_time").rows() == [("n-1-0-0", NOW)]


@pytest.mark.parametrize(
    ("path", "payload", "expected"),
    [
        ("a.b.c", b'{"a":{"b":{"c":"x"}}}', "x"),
        ("a.b.c", b'{"a":{"b":5}}', None),
        ("a.b.c", b'{"a":null}', None),
        ("items.1.price", b'{"items":[{},{"price":"9"}]}', "9"),
        ("items.1", b'{"items":{"1":"key"}}', "key"),
        ("items.7", b'{"items":[1]}', None),
        ("/a.b/c~1d", b'{"a.b":{"c/d":"x"}}', "x"),
        ("/items/0", b'{"items":["x"]}', "x"),
    ],
)
def test_path(path: str, payload: bytes, expected: str | None) -> None:
    spec = spec_of([{"name": "v", "path": path, "type": "string"}])
    assert both_ways(spec, arrivals(payload)).rows["v"].to_list() == [expected]


def test_headers_and_two_fields_of_one_path() -> None:
    spec = spec_of(
        [
            {"name": "kind", "path": "header:X-Kind", "type": "string"},
            {"name": "one", "path": "n", "type": "integer"},
            {"name": "two", "path": "n", "type": "integer"},
        ],
        id="header:x-id",
    )
    given = Arrivals(
        [b'{"n":1}', b'{"n":"2"}'],
        ["n/1/0/0", "n/1/0/1"],
        [NOW_US] * 2,
        [{"x-kind": "push", "x-id": "7"}, {}],
    )
    found = both_ways(spec, given)
    assert found.rows.select("event_id", "kind", "one", "two").rows() == [("7", "push", 1, 1)]
    assert found.rejected[0].code == "missing_identity"


def test_split_inside_an_event_keeps_the_items_bytes() -> None:
    spec = PipelineSpec.model_validate(
        {"name": "cases", "source": {"split": "data.items"}, "fields": [{"name": "v", "type": "integer"}]}
    )
    transform = Transform(spec)
    given = arrivals(b'{"data":{"items":[ {"v": 1} ,{"v":2}]}}', b'{"data":{}}', b'{"data":{"items":[]}}')
    expanded, rejected = transform.expand(given)
    assert list(expanded.payloads) == [b'{"v": 1}', b'{"v":2}', b'{"data":{}}']
    assert list(expanded.positions) == ["n/1/0/0.0", "n/1/0/0.1", "n/1/0/1"]
    assert [(r.index, r.step, r.code) for r in rejected] == [(2, "parse", "split_missing")]
    found = transform.run(expanded, NOW, skip=frozenset({2}))
    assert found.rows.select("_index", "v").rows() == [(0, 1), (1, 2)]


def test_older_than_silver_is_kept_is_rejected() -> None:
    spec = PipelineSpec.model_validate(
        {
            "name": "cases",
            "event": {"time": "at"},
            "retention": {"silver": "30d"},
            "fields": [{"name": "v", "type": "integer"}],
        }
    )
    found = both_ways(spec, arrivals(b'{"at":"2026-01-01","v":1}', b'{"at":"2026-11-20","v":2}'))
    assert found.rows["v"].to_list() == [2]
    assert [(r.index, r.step, r.code) for r in found.rejected] == [(0, "retention", "too_old")]


_SPEC = spec_of(
    [
        {"name": "i", "type": "integer"},
        {"name": "f", "path": "o.f", "type": "number"},
        {"name": "s", "path": "o.s", "type": "string"},
        {"name": "b", "type": "boolean", "default": True},
        {"name": "t", "type": "timestamp"},
        {"name": "d", "type": "date", "required": True},
    ],
    id=["i", "o.s"],
    time="t",
)
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["5", "2026-01-01", "2026-01-01T00:00:00Z", 1700000000, 1700000000.5])
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ofsx"), inner, max_size=3),
    max_leaves=4,
)
_EVENTS = st.fixed_dictionaries({}, optional=dict.fromkeys("ioftbdx", _JSON))


@settings(max_examples=150, deadline=None)
@given(st.lists(_EVENTS, min_size=1, max_size=4))
def test_any_events_map_the_same_both_ways(events: list[dict[str, Any]]) -> None:
    payloads = []
    for event in events:
        try:
            payloads.append(msgspec.json.encode(event))
        except (OverflowError, msgspec.MsgspecError, UnicodeEncodeError):
            payloads.append(repr(event).replace("'", '"').encode("utf-8", "replace"))
    found = both_ways(_SPEC, arrivals(*payloads))
    assert len(found.rows) + len(found.rejected) == len(events)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_row_or_a_reason(payload: bytes) -> None:
    found = both_ways(
        spec_of([{"name": "a", "type": "json"}, {"name": "b", "type": "string"}]), arrivals(payload)
    )
    assert len(found.rows) + len(found.rejected) == 1
    assert isinstance(found.rows, pl.DataFrame)
