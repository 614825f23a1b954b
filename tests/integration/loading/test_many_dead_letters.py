"""A request of nothing but bad events: all of them set aside as they came, in a few statements."""

from collections.abc import Callable
from typing import Any

import pytest

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse import repository
from tests.support.loading import Bench, check_whole, order, query

LETTERS = "SELECT position, event_id, reason, payload, headers, state FROM quality.dead_letters"


def bad(number: int) -> dict[str, Any]:
    return order(number, amount=f"über {number} \\ \"'\t")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many letters each statement held: three at most."""
    sent: list[int] = []
    dumps = repository.orjson.dumps

    def counted(value: Any, *rest: Any, **more: Any) -> bytes:
        if isinstance(value, list) and value and "payload" in value[0]:
            sent.append(len(value))
        return dumps(value, *rest, **more)

    monkeypatch.setattr(repository.orjson, "dumps", counted)
    monkeypatch.setattr(repository, "_LETTERS", 3)
    return sent


def test_all_are_kept_with_their_bytes_headers_and_reasons(
    make: Callable[..., Bench], database: Database, statements: list[int]
) -> None:
    bench = make()
    events = [bad(n) for n in range(7)]
    bench.send([*events, order(100)], headers={"x-kind": "ü 'quoted'"})
    bench.load()
    assert statements == [3, 3, 1]
    assert check_whole(database) == 1
    found = sorted(query(database, LETTERS), key=lambda row: int(row[0].rpartition("/")[2]))
    assert [row[1] for row in found] == [event["id"] for event in events]
    assert all(f"the text 'über {n} " in row[2] for n, row in enumerate(found))
    assert {(row[4]["x-kind"], row[5]) for row in found} == {("ü 'quoted'", "open")}
    sent = query(database, "SELECT payload FROM quality.dead_letters")
    assert sorted(repository.orjson.loads(row[0])["id"] for row in sent) == [e["id"] for e in events]


def test_large_ones_go_in_smaller_statements(
    make: Callable[..., Bench], database: Database, statements: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "_LETTERS_BYTES", 10_000)
    bench = make()
    bench.send([order(n, amount="x" * 9000) for n in range(4)])
    bench.load()
    assert statements == [1, 1, 1, 1]
    assert query(database, "SELECT count(*), min(length(payload)) > 9000 FROM quality.dead_letters") == [
        (4, True)
    ]


def test_one_event_is_one_letter_whose_newest_reason_counts(
    make: Callable[..., Bench], database: Database
) -> None:
    bench = make()
    bench.send([bad(1)])
    bench.load()
    ((position, *_),) = query(database, LETTERS)
    with database.connect(Role.WRITER) as connection:
        connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
        letter = {
            "workspace_id": 1, "pipeline_id": 1, "batch_name": "again", "position": position,
            "event_id": None, "event_time": None, "step": "map", "code": "wrong_type", "expectation": None,
            "payload": b"{}", "headers": {}, "received_at": "2026-11-21T12:00:00Z", "state": "held",
        }  # fmt: skip
        again = [{**letter, "reason": "first"}, {**letter, "reason": "last"}]
        repository.insert_dead_letters(connection, again)
        connection.commit()
    ((_, event_id, reason, payload, _, state),) = query(database, LETTERS)
    assert (event_id, reason, state) == (None, "last", "held")
    assert repository.orjson.loads(bytes(payload)) == bad(1), "what was received stays"
