"""A workspace's quota on the running event route: counted as accepted, refused in time, let in again."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.usage.contracts import Measure, Quota
from sluiceway.usage.intake import QuotaGate
from sluiceway.usage.service import set_quotas, usage

EVENT = b'{"id": 1, "carrier": "B6"}'


@pytest.fixture
def _told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process looks for limits that have changed a few times a second, not every five."""
    monkeypatch.setitem(QuotaGate.__init__.__kwdefaults__, "every_s", 0.2)


def allow(database: Database, *quotas: Quota) -> None:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        set_quotas(connection, 1, list(quotas), by="test", operator=True)


def used(database: Database) -> dict[str, int]:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        found = usage(connection, 1, datetime.now(UTC))
    return {one.quota.measure.value: one.used for one in found.measures}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_hard_limit_is_a_429_that_says_until_when(_told_soon: None, running, database: Database) -> None:
    intake = running.route._intake
    allow(database, Quota(Measure.EVENTS, hard=5))
    intake.quota.keep()
    assert [running.post(EVENT).status_code for _ in range(3)] == [202] * 3
    three = json.dumps([{"id": n} for n in range(3)]).encode()
    answer = running.post(three)
    assert answer.status_code == 429, "three more do not fit, whichever way the request goes"
    problem = answer.json()
    assert problem["code"] == "quota_exceeded" and problem["retryable"] is True
    assert (problem["measure"], problem["limit"]) == ("events", 5)
    end = (datetime.now(UTC).replace(day=1).timestamp() + 32 * 86_400) - time.time()
    assert 0 < int(answer.headers["retry-after"]) <= end
    assert "5 events a month" in problem["detail"]
    assert [running.post(EVENT).status_code for _ in range(3)] == [202, 202, 429]
    assert running.post(EVENT, key="every", pipeline="orders").status_code == 429
    assert running.route.counts["quota_exceeded"] >= 2
    assert len(running.records()) == 5, "nothing that was refused is in the spool"

    intake.quota.keep(), intake.keeper.keep()
    assert used(database)["events"] == 5
    refusals = "SELECT sum(requests) FROM app.intake_refusals WHERE code = 'quota_exceeded'"
    with database.transaction(Role.APP, workspace_id=1) as connection:
        assert connection.execute(sa.text(refusals)).scalar_one() >= 3

    allow(database, Quota(Measure.EVENTS, hard=6))
    until(lambda: running.post(EVENT).status_code == 202)  # the process hears of it by itself
    intake.quota.keep()
    assert used(database)["events"] == 6


def test_bytes_are_counted_after_decompression(running, database: Database) -> None:
    import gzip

    body = json.dumps({"id": 1, "text": "x" * 10_000}).encode()
    assert running.post(gzip.compress(body), content_encoding="gzip").status_code == 202
    running.route._intake.quota.keep()
    assert used(database) == {
        "events": 1, "ingested_bytes": len(body), "stored_bytes": 0, "seats": 0,
    }  # fmt: skip
    allow(database, Quota(Measure.INGESTED_BYTES, hard=len(body) + 10))
    running.route._intake.quota.keep()
    answer = running.post(EVENT)
    assert answer.status_code == 429 and answer.json()["measure"] == "ingested_bytes"


def test_what_is_refused_for_another_reason_uses_nothing(running, database: Database) -> None:
    allow(database, Quota(Measure.EVENTS, hard=2))
    running.route._intake.quota.keep()
    for body in (b"{", b"[1]", b"[]", b""):
        running.post(body)
    assert [running.post(EVENT).status_code for _ in range(3)] == [202, 202, 429]


def test_a_stopping_process_keeps_what_it_counted(serve, database: Database) -> None:
    running = serve()
    assert running.post(EVENT).status_code == 202
    running.route._intake.quota.stop()
    assert used(database)["events"] == 1
