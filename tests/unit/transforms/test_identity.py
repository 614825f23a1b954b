"""Which event is which: declared ids, senders' own, Idempotency-Key, place in the log; forms as events."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.catalog.contracts import PipelineSpec
from sluiceway.kit.forms import form_to_json
from sluiceway.transforms.contracts import Arrivals, BodyForm, Mapped
from sluiceway.transforms.service import Transform
from sluiceway.transforms.split import split

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
FIELDS = [{"name": "a", "type": "string"}, {"name": "n", "type": "integer"}]


def spec(**more: Any) -> PipelineSpec:
    return PipelineSpec.model_validate({"name": "events", "fields": FIELDS, **more})


def arrivals(
    body: bytes, form: BodyForm = BodyForm.OBJECT, headers: dict[str, str] | None = None, at: str = "n/1/0"
) -> Arrivals:
    events = split(form, body)
    return Arrivals(
        events, [f"{at}/{i}" for i in range(len(events))], [0] * len(events), [headers or {}] * len(events)
    )


def mapped(found: PipelineSpec, *given: Arrivals) -> Mapped:
    whole = Arrivals(
        [p for a in given for p in a.payloads],
        [p for a in given for p in a.positions],
        [1_790_000_000_000_000 for a in given for _ in a.payloads],
        [h for a in given for h in a.headers],
    )
    transform = Transform(found)
    expanded, rejected = transform.expand(whole)
    result = transform.run(expanded, NOW, skip=frozenset(r.index for r in rejected))
    return Mapped(result.rows, [*rejected, *result.rejected])


def ids(found: PipelineSpec, *given: Arrivals) -> list[str]:
    result = mapped(found, *given)
    assert result.rejected == []
    return result.rows["event_id"].to_list()


def test_without_an_id_each_place_is_an_event() -> None:
    assert ids(spec(), arrivals(b"[{},{}]", BodyForm.ARRAY), arrivals(b"{}", at="n/1/9")) == [
        "n-1-0-0", "n-1-0-1", "n-1-9-0",
    ]  # fmt: skip


def test_a_retried_idempotency_key_is_the_same_events() -> None:
    body = b'{"a":"x"}\n{"a":"x"}\n{"a":"y"}'
    first = ids(spec(), arrivals(body, BodyForm.NDJSON, {"idempotency-key": "k-1"}))
    again = ids(spec(), arrivals(body, BodyForm.NDJSON, {"idempotency-key": "k-1"}, at="other/7/0"))
    assert first == again and len(set(first)) == 3
    other_key = ids(spec(), arrivals(body, BodyForm.NDJSON, {"idempotency-key": "k-2"}))
    other_bytes = ids(spec(), arrivals(body.replace(b"x", b"z"), BodyForm.NDJSON, {"idempotency-key": "k-1"}))
    assert not set(first) & set(other_key)
    assert set(first) & set(other_bytes) == {first[2]}  # the third event's bytes are the same
    long = ids(spec(), arrivals(body, BodyForm.NDJSON, {"idempotency-key": "k" * 999}))
    assert all(len(i.encode()) <= 200 for i in long) and len(set(long)) == 3


def test_a_declared_id_goes_before_the_key() -> None:
    declared = spec(event={"id": "n"})
    assert ids(declared, arrivals(b'{"n":5}', headers={"idempotency-key": "k"})) == ["5"]
    missing = mapped(declared, arrivals(b"{}", headers={"idempotency-key": "k"}))
    assert [r.code for r in missing.rejected] == ["missing_identity"]


GITHUB = spec(source={"verify": {"scheme": "github"}})
STRIPE = spec(source={"verify": {"scheme": "stripe"}})


def test_the_senders_delivery_id_is_the_default() -> None:
    assert ids(GITHUB, arrivals(b"{}", headers={"x-github-delivery": "d-1"})) == ["d-1"]
    assert ids(STRIPE, arrivals(b'{"id":"evt_1"}')) == ["evt_1"]
    shopify = spec(source={"verify": {"scheme": "shopify"}})
    headers = {"x-shopify-topic": "orders/create", "x-shopify-event-id": "e-1"}
    assert ids(shopify, arrivals(b"{}", headers=headers)) == ["orders/create|e-1"]
    assert ids(spec(event={"id": "n"}, source={"verify": {"scheme": "github"}}), arrivals(b'{"n":1}')) == [
        "1"
    ]


def test_a_batch_under_one_delivery_id_is_not_one_event() -> None:
    batch = arrivals(b"[{},{},{}]", BodyForm.ARRAY, {"x-github-delivery": "d"})
    assert ids(GITHUB, batch) == ["d", "d#1", "d#2"]
    cut = spec(source={"verify": {"scheme": "github"}, "split": "items"})
    found = ids(cut, arrivals(b'{"items":[{},{}]}', headers={"x-github-delivery": "d"}))
    assert found == ["d#0.0", "d#0.1"]


@pytest.mark.parametrize(
    ("found", "body"),
    [
        (GITHUB, b"{}"),
        (STRIPE, b"{}"),
        (STRIPE, b'{"id":""}'),
        (STRIPE, b'{"id":{}}'),
        (STRIPE, b'{"id":null}'),
    ],
)
def test_without_the_senders_id_nothing_is_lost(found: PipelineSpec, body: bytes) -> None:
    assert ids(found, arrivals(body)) == ["n-1-0-0"]
    (given_id,) = ids(found, arrivals(body, headers={"idempotency-key": "k"}))
    assert given_id.startswith("k|0|")


@given(
    st.lists(st.tuples(st.sampled_from(["", "d", "k"]), st.sampled_from([b"{}", b'{"a":1}', b'{"n":"7"}'])))
)
def test_fast_and_slow_mapping_give_one_identity(events: list[tuple[str, bytes]]) -> None:
    """`{"a":1}` is left to the slow mapper: whatever is around it, each event's id is its own."""
    names = {"d": "x-github-delivery", "k": "idempotency-key"}
    given = [
        arrivals(body, headers={names[kind]: f"{kind}-{i}"} if kind else {}, at=f"n/1/{i}")
        for i, (kind, body) in enumerate(events)
    ]
    together = mapped(GITHUB, *given)
    alone = [mapped(GITHUB, one) for one in given]
    assert together.rows["event_id"].to_list() == [i for m in alone for i in m.rows["event_id"].to_list()]
    assert len(set(together.rows["event_id"])) == len(events)


def test_a_form_is_an_event() -> None:
    assert split(BodyForm.FORM, b"a=1&n=2") == [b"a=1&n=2"]
    result = mapped(spec(), arrivals(b"a=x+y%26z&n=7&n2=", BodyForm.FORM, FORM))
    assert result.rejected == []
    assert result.rows.select("a", "n").rows() == [("x y&z", 7)]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"a=%ff", "malformed_form"), (b"a=", "malformed_form"), (b"\xff=1", "malformed_form"),
     (b"a=1&n=many", "wrong_type")],
)  # fmt: skip
def test_a_form_that_cannot_be_read_says_so(body: bytes, code: str) -> None:
    assert [r.code for r in mapped(spec(), arrivals(body, BodyForm.FORM, FORM)).rejected] == [code]


def test_without_its_content_type_a_form_is_broken_json() -> None:
    assert [r.code for r in mapped(spec(), arrivals(b"a=1", BodyForm.FORM)).rejected] == ["malformed_json"]


def test_a_mended_form_may_be_json() -> None:
    assert mapped(spec(), arrivals(b'{"a":"x","n":1}', headers=FORM)).rows.select("a", "n").rows() == [
        ("x", 1)
    ]


def test_json_in_a_forms_payload_is_the_event() -> None:
    body = (
        b"payload=%7B%22items%22%3A%5B%7B%22a%22%3A%22x%22%7D%2C%7B%22a%22%3A%22y%22%7D%2C%22t%3Du%22%5D%7D"
    )
    assert orjson.loads(form_to_json(body) or b"") == {"items": [{"a": "x"}, {"a": "y"}, "t=u"]}
    cut = spec(source={"split": "items"})
    result = mapped(cut, arrivals(body, BodyForm.FORM, FORM))
    assert result.rows["a"].to_list() == ["x", "y"]
    assert [r.code for r in result.rejected] == ["not_an_object"]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"a=1&b=2&a=3&a=4", {"a": ["1", "3", "4"], "b": "2"}),
        (b"a=&b=1", {"a": "", "b": "1"}),
        (b"a[b]=1&%C3%BC=%F0%9F%99%82", {"a[b]": "1", "ü": "🙂"}),
        (b"payload=text", {"payload": "text"}),
        (b"payload=[1]", {"payload": "[1]"}),
        (b"payload={}&b=1", {"payload": "{}", "b": "1"}),
        (b"payload=%7B%7D", {}),
    ],
)
def test_forms_as_json(body: bytes, found: Any) -> None:
    assert orjson.loads(form_to_json(body) or b"null") == found


@given(st.binary(max_size=100))
def test_no_form_ever_fails(body: bytes) -> None:
    text = form_to_json(body)
    assert text is None or isinstance(orjson.loads(text), dict)
