"""An entry's text: the same for the same thing, without secrets, and with what is personal beside it."""

import json
import uuid
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest

from sluiceway.audit.canonical import MAX_PART_BYTES, canonical, changes, digest, texts
from sluiceway.audit.chain import START, link, time_text
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.errors import InvalidHead
from sluiceway.audit.verification import Head

ADA = Actor("user", "0198c0de-0000-7000-8000-000000000001", "ada@example.com", "192.0.2.7", "Firefox", "r-1")


class Colour(StrEnum):
    RED = "red"


def content_of(entry: Entry) -> dict[str, object]:
    found: dict[str, object] = json.loads(texts(entry).content)
    return found


def test_canonical_text_does_not_depend_on_order() -> None:
    assert canonical({"b": 1, "a": [1, 2]}) == canonical({"a": [1, 2], "b": 1}) == '{"a":[1,2],"b":1}'


def test_values_become_what_json_holds() -> None:
    at = datetime(2026, 11, 21, 18, 0, tzinfo=timezone(timedelta(hours=1)))
    found = canonical(
        {
            "at": at, "id": uuid.UUID(int=7), "colour": Colour.RED, "set": {"b", "a"}, "none": None,
            "nan": float("nan"), "raw": b"abc", "true": True, "half": 0.5,
        }
    )  # fmt: skip
    assert json.loads(found) == {
        "at": "2026-11-21T17:00:00+00:00", "id": "00000000-0000-0000-0000-000000000007", "colour": "red",
        "set": ["a", "b"], "none": None, "nan": "nan", "raw": "3 bytes", "true": True, "half": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800", "ok\udfff"])
def test_text_that_cannot_be_stored_is_replaced(bad: str) -> None:
    found = canonical({"name": bad})
    assert "\\u0000" not in found and found.encode("utf-8")


@pytest.mark.parametrize(
    "name", ["password", "new_password", "secret", "client_secret", "token", "stream_token", "secret_hash",
             "Authorization", "cookie", "private_key", "recovery_codes"],
)  # fmt: skip
def test_secrets_are_taken_out_wherever_they_stand(name: str) -> None:
    entry = Entry("x.done", ADA, after={"deep": [{name: "hunter2 hunter2"}]}, detail={name: ["hunter2"]})
    assert "hunter2" not in "".join(str(part) for part in vars_of(entry))


def test_a_key_in_a_text_is_taken_out() -> None:
    key = "slw_abcdefghijkm_" + "A" * 43
    found = texts(Entry("x.done", Actor("user", "1", f"I am {key}"), detail={"note": f"sent with {key}!"}))
    assert "A" * 43 not in f"{found.content}{found.who}{found.whom}" and "slw_***" in found.content


def test_what_is_personal_stands_beside_the_content() -> None:
    entry = Entry(
        "member.invited",
        ADA,
        "member",
        "7",
        after={"email": "bob@example.com", "name": "Bob", "role": "admin"},
    )
    found = texts(entry)
    for personal in ("ada@example.com", "192.0.2.7", "Firefox", "bob@example.com", "Bob"):
        assert personal not in found.content
    assert found.who is not None and found.whom is not None
    content = json.loads(found.content)
    assert content["after"] == {"role": "admin"}
    assert (content["who"], content["whom"]) == (digest(found.who), digest(found.whom))
    assert json.loads(found.whom)["after"] == {"email": "bob@example.com", "name": "Bob"}


def test_the_name_of_a_thing_is_not_personal() -> None:
    content = content_of(Entry("key.created", ADA, "key", "k", after={"name": "gate sensors"}))
    assert content["after"] == {"name": "gate sensors"} and content["whom"] is None


def test_the_same_person_twice_cannot_be_told_from_the_hashes() -> None:
    one, two = (texts(Entry("key.created", ADA)) for _ in range(2))
    assert json.loads(one.content)["who"] != json.loads(two.content)["who"]


def test_a_large_part_is_kept_as_its_size_and_hash() -> None:
    large = {"spec": "x" * MAX_PART_BYTES}
    after = content_of(Entry("dashboard.updated", ADA, after=large))["after"]
    assert after == {
        "too_large": True, "size_bytes": len(canonical(large)), "sha256": digest(canonical(large)),
    }  # fmt: skip


def test_only_what_differs_is_told() -> None:
    before = {"title": "A", "rows": [1, 2], "same": 1, "deep": {"x": 1, "y": 2}, "gone": True}
    after = {"title": "B", "rows": [1, 3], "same": 1, "deep": {"x": 1, "y": 3}, "new": None}
    was, now = changes(before, after)
    assert was == {"title": "A", "rows": [1, 2], "deep": {"y": 2}, "gone": True}
    assert now == {"title": "B", "rows": [1, 3], "deep": {"y": 3}, "new": None}
    assert changes(before, before) == ({}, {})


def test_an_entry_holds_of_a_change_only_what_differs() -> None:
    before, after = {"name": "A", "role": "admin"}, {"name": "B", "role": "admin"}
    content = content_of(Entry("role.changed", ADA, "role", "r", before, after))
    assert (content["before"], content["after"]) == ({"name": "A"}, {"name": "B"})
    alone = content_of(Entry("role.deleted", ADA, "role", "r", before))
    assert alone["before"] == before and "after" not in alone


def test_every_part_of_an_entry_is_in_its_hash() -> None:
    at = datetime(2026, 11, 21, 16, 42, 26, 120, tzinfo=UTC)
    first = link(START, 1, 1, at, "{}")
    others = {
        link(first, 1, 1, at, "{}"), link(START, 2, 1, at, "{}"), link(START, 1, 2, at, "{}"),
        link(START, 1, 1, at + timedelta(microseconds=1), "{}"), link(START, 1, 1, at, "{} "),
    }  # fmt: skip
    assert len(others | {first}) == 6
    assert time_text(at) == "2026-11-21T16:42:26.000120Z"


def test_a_head_is_read_back() -> None:
    head = Head(17, bytes(range(32)))
    assert Head.parse(f" {head} ") == head


@pytest.mark.parametrize(
    "text",
    ["", "17", "17:", ":" + "0" * 64, "17:xyz", "-1:" + "0" * 64, "1:" + "g" * 64, "1:" + "0" * 63,
     "9" * 19 + ":" + "0" * 64, "\u0661:" + "0" * 64],
)  # fmt: skip
def test_what_is_no_head(text: str) -> None:
    with pytest.raises(InvalidHead):
        Head.parse(text)


def vars_of(entry: Entry) -> tuple[str | None, ...]:
    found = texts(entry)
    return found.content, found.who, found.whom
