"""An event is one silver row, however often, in whatever order and through whichever node it is sent."""

import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluiceway.catalog.service import Catalog
from sluiceway.identity.keys import create_key
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.loading.replay import replay_day
from sluiceway.loading.retry import retry_dead_letters
from sluiceway.quality.contracts import NoGate
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.loading import ORDERS, check_whole, order, query
from tests.support.nodes import Node

READINGS = "name: readings\nfields:\n  - {name: sensor, type: string}\n  - {name: value, type: number}\n"
NDJSON = {"content-type": "application/x-ndjson"}

Make = Callable[..., Node]


@pytest.fixture
def make(database: Database, settings: Settings, tmp_path: Path) -> Iterator[Make]:
    apply_pipeline(database, 1, ORDERS)
    apply_pipeline(database, 1, READINGS)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        key = create_key(connection, 1, "sender", ["ingest"])
    made: list[Node] = []

    def node(**options: Any) -> Node:
        made.append(Node(database, settings, tmp_path, **{"key": key, **options}))
        return made[-1]

    yield node
    for item in made:
        item.close()


def lines(*numbers: int) -> bytes:
    return b"\n".join(json.dumps(order(n)).encode() for n in numbers)


def orders(database: Database) -> list[str]:
    check_whole(database)
    return [row[0] for row in query(database, "SELECT event_id FROM silver.orders ORDER BY seq")]


def duplicates(database: Database, pipeline: int = 1) -> int:
    found = query(database, "SELECT duplicates FROM app.pipeline_state WHERE pipeline_id = :p", p=pipeline)
    return int(found[0][0])


def test_a_retry_with_the_same_id(make: Make, database: Database) -> None:
    node = make()
    body = json.dumps(order(1)).encode()
    assert [node.post(body).status_code for _ in range(3)] == [202] * 3  # in one batch of the loader
    node.load()
    assert node.post(body).status_code == 202  # and in a later one
    # A sender that changed its mind about the rest still means the same event.
    assert node.post(json.dumps(order(1, amount=99)).encode()).status_code == 202
    node.load()
    assert orders(database) == ["o-1"]
    assert query(database, "SELECT amount FROM silver.orders") == [(0.25,)]
    assert duplicates(database) == 4


def test_a_whole_batch_sent_twice(make: Make, database: Database) -> None:
    node = make()
    batch = lines(*range(500))
    for body, load in ((batch, True), (batch, False), (lines(*range(250, 750)), True)):
        answer = node.post(body, NDJSON)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 500)
        if load:
            node.load()
    assert orders(database) == [f"o-{n}" for n in range(750)]
    assert duplicates(database) == 750
    assert query(database, "SELECT count(*) FROM silver.samples") == [(1500,)]


def test_reordered_and_doubled_delivery(make: Make, database: Database) -> None:
    node = make()
    chance = random.Random(11)
    sent = [n for n in range(120) for _ in range(chance.randint(1, 3))]
    chance.shuffle(sent)
    at = 0
    while at < len(sent):
        size = chance.choice([1, 1, 2, 7, 20])
        part = sent[at : at + size]
        at += size
        if len(part) == 1:
            assert node.post(lines(*part)).status_code == 202
        else:
            assert node.post(lines(*part), NDJSON).status_code == 202
        if chance.random() < 0.3:
            node.load()
    node.load()
    assert sorted(orders(database)) == sorted(f"o-{n}" for n in range(120))
    assert duplicates(database) == len(sent) - 120


def test_a_retried_idempotency_key(make: Make, database: Database) -> None:
    """For events that have no id of their own; equal bytes at two places of a batch are two events."""
    node = make(pipeline="readings")
    reading, other = b'{"sensor":"t1","value":20}', b'{"sensor":"t1","value":21}'
    batch = b"\n".join([reading, reading, other])
    for body, key in (
        (batch, "k-1"), (batch, "k-1"), (batch, "k-2"), (batch, None), (batch, None),
        (b"\n".join([reading, other, other]), "k-1"),
    ):  # fmt: skip
        answer = node.post(body, NDJSON | ({} if key is None else {"idempotency-key": key}))
        assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
        node.load()
    # k-1 once, k-2 once, twice without a key, and of k-1 with other bytes the one that is new.
    assert check_whole(database, "readings", 2) == 3 + 3 + 6 + 1
    assert duplicates(database, 2) == 3 + 2


def test_a_retried_key_is_the_same_after_a_replay(make: Make, database: Database) -> None:
    node = make(pipeline="readings")
    for number in range(3):
        body = b'[{"sensor":"t%d","value":1},{"sensor":"t%d","value":1}]' % (number, number)
        for _ in range(2):
            answer = node.post(body, {"idempotency-key": f"key-{number}"})
            assert answer.status_code == 202
    assert node.post(b"sensor=form&value=7", {"content-type": "application/x-www-form-urlencoded",
                                              "idempotency-key": "key-form"}).status_code == 202  # fmt: skip
    node.load()
    node.flush()
    rows = "SELECT seq, event_id, position, sensor, value FROM silver.readings ORDER BY seq"
    before = query(database, rows)
    assert len(before) == 7 and before[-1][3:] == ("form", 7.0)
    with database.transaction(Role.WRITER, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "readings")
    today = datetime.now(UTC).date()
    for day in (today - timedelta(days=1), today):  # the test may run over midnight
        replay_day(database, node.lake, NoGate(), pipeline, day, clock=SystemClock())
    assert [row[1:] for row in query(database, rows)] == [row[1:] for row in before]
    assert node.post(b'[{"sensor":"t0","value":1},{"sensor":"t0","value":1}]', {"idempotency-key": "key-0"}
                     ).status_code == 202  # fmt: skip
    node.load()
    assert check_whole_ids(database) == 7


def check_whole_ids(database: Database) -> int:
    ((rows, ids),) = query(database, "SELECT count(*), count(DISTINCT event_id) FROM silver.readings")
    assert rows == ids
    return int(rows)


def test_the_same_events_through_two_nodes(make: Make, database: Database) -> None:
    one, two = make(name="a"), make(name="b")
    for body, node in (
        (lines(*range(100)), one), (lines(*range(100)), two), (lines(*range(50, 150)), two), (lines(7), one),
    ):  # fmt: skip
        assert node.post(body, NDJSON).status_code == 202
    one.load()
    two.load()
    assert sorted(orders(database)) == sorted(f"o-{n}" for n in range(150))
    assert duplicates(database) == 151


def test_two_nodes_load_the_same_events_at_once(make: Make, database: Database) -> None:
    nodes = [make(name="a"), make(name="b")]
    chance = random.Random(3)
    for node in nodes:
        for _ in range(20):
            part = chance.sample(range(400), 60)
            assert node.post(lines(*part), NDJSON).status_code == 202
        assert node.post(lines(*range(400)), NDJSON).status_code == 202
    failed: list[BaseException] = []

    def load(node: Node) -> None:
        try:
            node.load()
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=load, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    assert failed == []
    assert sorted(orders(database)) == sorted(f"o-{n}" for n in range(400))
    assert duplicates(database) == 2 * (20 * 60 + 400) - 400


def test_a_form_that_failed_is_mended_as_json_or_tried_again_as_it_is(make: Make, database: Database) -> None:
    node = make(pipeline="readings")
    form = {"content-type": "application/x-www-form-urlencoded"}
    for body in (b"sensor=t1&value=many", b"sensor=t2&value=some"):
        assert node.post(body, form).status_code == 202
    node.load()
    letters = query(database, "SELECT id, code, payload FROM quality.dead_letters ORDER BY payload")
    assert [(code, bytes(payload)) for _, code, payload in letters] == [
        ("wrong_type", b"sensor=t1&value=many"), ("wrong_type", b"sensor=t2&value=some"),
    ]  # fmt: skip
    mended = {letters[0][0]: b'{"sensor":"t1","value":5}'}
    result = retry_dead_letters(database, NoGate(), 1, [i for i, _, _ in letters], payloads=mended)
    assert (result.tried, result.loaded, result.failed) == (2, 1, 1)
    apply_pipeline(
        database,
        1,
        READINGS.replace("{name: value, type: number}", "{name: said, path: value, type: string}"),
    )
    result = retry_dead_letters(database, NoGate(), 1, [letters[1][0]])
    assert (result.tried, result.loaded, result.failed) == (1, 1, 0)
    assert query(database, "SELECT sensor, value, said FROM silver.readings ORDER BY seq") == [
        ("t1", 5.0, None), ("t2", None, "some"),
    ]  # fmt: skip
