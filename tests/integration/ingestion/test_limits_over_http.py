"""Limits as a sender meets them: real HTTP, the route, the database's buckets, and what people see of it."""

import pytest

from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.limits import recent_refusals
from sluiceway.warehouse.schema import apply_pipeline

SLOW = """\
name: slow
fields: [{name: n, type: integer}]
limits: {events_per_s: 0.001, burst: 5}
"""
NARROW = """\
name: narrow
fields: [{name: n, type: integer}]
limits: {bytes_per_s: 10, body_bytes: 900, event_bytes: 500, events_per_request: 3}
"""


@pytest.fixture
def limited(serve, database: Database):
    apply_pipeline(database, 1, SLOW)
    apply_pipeline(database, 1, NARROW)
    running = serve()
    with database.transaction(Role.APP, workspace_id=1) as connection:
        running.keys["tight"] = create_key(connection, 1, "tight", ["ingest"], rate_per_s=0.001, burst=2)
    return running


def test_a_rate_that_is_used_up_says_when_to_come_again(limited, database: Database) -> None:
    for _ in range(5):
        assert limited.post(b'{"n":1}', "every", "slow").status_code == 202
    refused = limited.post(b'{"n":1}', "every", "slow")
    body = refused.json()
    assert (refused.status_code, body["code"], body["retryable"]) == (429, "rate_limited", True)
    assert 500 < body["retry_after_s"] <= 1000
    assert 500 < int(refused.headers["retry-after"]) <= 1000
    assert refused.headers["ratelimit-policy"] == '"pipeline-events";q=5;w=5000;qu="events"'
    assert refused.headers["ratelimit"].startswith('"pipeline-events";r=0;t=')
    assert (body["limit"], body["needed"]) == ("the pipeline's events", 1)
    assert limited.post(b'{"n":1}', "every", "flights").status_code == 202  # the others go on
    assert sum(r.pipeline_id == number_of(database, "slow") for r in limited.records()) == 5


def number_of(database: Database, slug: str) -> int:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        found = connection.exec_driver_sql("SELECT id FROM app.pipelines WHERE slug = %s", (slug,))
        return int(found.scalar_one())


def test_a_batch_larger_than_the_burst_never_passes(limited) -> None:
    refused = limited.post(b"[" + b",".join([b'{"n":1}'] * 6) + b"]", "every", "slow")
    body = refused.json()
    assert (refused.status_code, body["code"], body["retryable"]) == (413, "batch_exceeds_burst", False)
    assert body["burst"] == 5 and "retry-after" not in refused.headers
    assert limited.post(b"[" + b",".join([b'{"n":1}'] * 5) + b"]", "every", "slow").status_code == 202


def test_a_key_has_a_limit_over_all_its_pipelines(limited) -> None:
    assert limited.post(b'{"id":"1"}', "tight", "flights").status_code == 202
    assert limited.post(b'{"amount":1}', "tight", "orders").status_code == 202
    refused = limited.post(b'{"id":"2"}', "tight", "flights").json()
    assert (refused["code"], refused["limit"]) == ("rate_limited", "the key's events")
    assert limited.post(b'{"id":"2"}', "every", "flights").status_code == 202


def test_a_pipelines_own_sizes(limited) -> None:
    def code(content: bytes) -> str:
        return str(limited.post(content, "every", "narrow").json().get("code", "accepted"))

    assert code(b'{"n":"%s"}' % (b"x" * 900)) == "body_too_large"
    assert code(b'{"n":"%s"}' % (b"x" * 500)) == "event_too_large"
    assert code(b"[" + b",".join([b'{"n":1}'] * 4) + b"]") == "too_many_events"
    assert code(b"[" + b",".join([b'{"n":1}'] * 3) + b"]") == "accepted"


def test_what_was_refused_is_kept_for_people_to_see(limited, database: Database) -> None:
    for _ in range(9):
        limited.post(b'{"n":1}', "every", "slow")
    number = number_of(database, "slow")
    limited.route._intake.keeper.keep()  # as it does every few seconds and at the end
    with database.transaction(Role.APP, workspace_id=1) as connection:
        found = recent_refusals(connection, 1, number, 60)
    assert [(r.code, r.requests) for r in found] == [("rate_limited", 4)]
