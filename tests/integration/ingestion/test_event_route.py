"""The event route over a real server: what is taken, and which code each refusal has."""

import gzip
import hmac
import json
import random
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from sluiceway.catalog.service import Catalog
from sluiceway.identity.keys import parse_key, revoke_key
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.senders.secrets import add_secret
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.ingestion.spool.segments import FileOps
from sluiceway.warehouse.schema import apply_pipeline

EVENTS = [{"id": n, "carrier": "B6"} for n in range(3)]
# Over the limit, and not compressing well: no bomb.
LARGE = b'{"text":"' + random.Random(1).randbytes(9_000_000).hex().encode() + b'"}'
NDJSON = "\n".join(json.dumps(e) for e in EVENTS).encode()


def problem(response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert (found["status"], found["code"]) == (status, code)
    assert found["type"] == f"urn:sluiceway:problem:{code}"
    assert found["title"] and found["detail"]
    return found


def test_an_object_is_on_disk_before_the_answer(running) -> None:
    response = running.post(json.dumps(EVENTS[0]).encode())
    assert response.status_code == 202
    [record] = running.records()
    assert response.json() == {"accepted": 1, "position": f"test-{record.position}"}
    assert (record.workspace_id, record.form, record.events) == (1, Form.OBJECT, 1)
    assert json.loads(record.body) == EVENTS[0]
    assert abs(record.received_us / 1e6 - time.time()) < 5
    assert record.headers == {}


def test_array_ndjson_and_compressed_bodies(running) -> None:
    array = json.dumps(EVENTS).encode()
    ndjson = "application/x-ndjson; charset=utf-8"
    answers = [
        running.post(array),
        running.post(NDJSON, content_type=ndjson),
        running.post(gzip.compress(array), content_encoding="gzip"),
        running.post(
            zstandard.ZstdCompressor().compress(NDJSON), content_encoding="zstd", content_type=ndjson
        ),
    ]
    assert [a.status_code for a in answers] == [202] * 4
    assert [a.json()["accepted"] for a in answers] == [3] * 4
    found = running.records()
    assert [r.form for r in found] == [Form.ARRAY, Form.NDJSON, Form.ARRAY, Form.NDJSON]
    assert [r.body for r in found] == [array, NDJSON, array, NDJSON]
    assert [r.events for r in found] == [3] * 4


def test_an_empty_array_is_nothing_to_write(running) -> None:
    assert running.post(b"[]").json() == {"accepted": 0}
    assert running.records() == []


def test_only_the_headers_that_the_pipeline_reads_are_kept(running) -> None:
    running.post(b"{}", x_github_event="push", x_secret="do not keep")
    [record] = running.records()
    assert record.headers == {"x-github-event": "push"}


def test_headers_that_go_with_each_event_are_short(running) -> None:
    """One that is nothing in a request is gigabytes in the rows or dead letters of its events."""
    assert running.post(b"{}", x_github_event="p" * 3000, x_other="o" * 20_000).status_code == 202
    found = problem(running.post(b"{}", x_github_event="p" * 5000), 431, "headers_too_large")
    assert found["limit_bytes"] == 4096 and "x-github-event" in found["detail"]
    assert [len(r.headers["x-github-event"]) for r in running.records()] == [3000]


def test_a_request_holds_only_so_many_events(serve) -> None:
    running = serve(events=5)
    for body, more, kind in (
        (b"[{},{},{},{},{}]", b"[{},{},{},{},{},{}]", "application/json"),
        (b"{}\n" * 5, b"{}\n" * 6, "application/x-ndjson"),
    ):
        assert running.post(body, content_type=kind).json()["accepted"] == 5
        found = problem(running.post(more, content_type=kind), 413, "too_many_events")
        assert found["limit_events"] == 5
    assert [r.events for r in running.records()] == [5, 5]


SPLIT = """\
name: split
source: {split: orders}
fields: [{name: a, type: string}]
"""


def test_a_request_holds_only_so_many_items_to_split(serve, database: Database) -> None:
    apply_pipeline(database, 1, SPLIT)
    running = serve(events=5)
    for _ in range(2):  # asked for, then known
        assert running.post(b'{"orders":[1,2,3,4,5]}', key="every", pipeline="split").json()["accepted"] == 1
        refused = running.post(b'{"orders":[1,2,3,4,5,6]}', key="every", pipeline="split")
        assert problem(refused, 413, "too_many_events")["limit_events"] == 5
    assert running.post(b'{"orders":[1,2,3,4,5,6],"id":"1"}').status_code == 202, "not split there"
    assert len(running.records()) == 3


def test_a_form_is_one_event_and_says_so(running) -> None:
    body = b"From=%2B15550100&Body=hello"
    response = running.post(body, content_type="application/x-www-form-urlencoded; charset=utf-8")
    assert response.json()["accepted"] == 1
    [record] = running.records()
    assert (record.form, record.events, record.body) == (Form.FORM, 1, body)
    assert record.headers == {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


LIMITED = """\
name: limited
limits: {events_per_s: 1, burst: 5, body_bytes: 300, event_bytes: 100, events_per_request: 4}
fields: [{name: a, type: string}]
"""


def test_a_pipelines_own_limits(running, database: Database) -> None:
    apply_pipeline(database, 1, LIMITED)

    def post(body: bytes):
        return running.post(body, key="every", pipeline="limited")

    big = b'{"a":"' + b"x" * 100 + b'"}'
    for body, code in (
        (big, "event_too_large"),
        (b"[" + big * 3, "body_too_large"),
        (b"[{},{},{},{},{}]", "too_many_events"),
    ):
        for _ in range(2):  # asked for, then known
            problem(post(body), 413, code)
    assert [post(b"{}").status_code for _ in range(5)] == [202] * 5
    deadline = time.monotonic() + 30
    while (response := post(b"[{},{},{},{}]")).status_code == 202:
        assert time.monotonic() < deadline
    problem(response, 429, "rate_limited")
    assert int(response.headers["retry-after"]) >= 1
    assert running.post(b"{}").status_code == 202, "another pipeline is not limited by it"


SIGNED = """\
name: signed
source: {type: webhook, verify: {scheme: github}}
fields: [{name: action, type: string}]
"""


def test_a_senders_signature_is_over_the_bytes_as_sent(running, database: Database) -> None:
    apply_pipeline(database, 1, SIGNED)
    secret = "it is not told"
    with database.transaction(Role.APP, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "signed")
        add_secret(connection, database.envelope, pipeline, secret, now=datetime.now(UTC))

    def post(body: bytes, signed: bytes, **headers: str):
        mark = "sha256=" + hmac.new(secret.encode(), signed, "sha256").hexdigest()
        return running.post(body, key=None, pipeline="signed", x_hub_signature_256=mark, **headers)

    event = b'{"action":"opened"}'
    packed = gzip.compress(event)
    assert post(event, event).status_code == 202
    assert post(packed, packed, content_encoding="gzip").status_code == 202
    problem(post(packed, event, content_encoding="gzip"), 401, "signature_invalid")
    problem(post(event, event + b" "), 401, "signature_invalid")
    problem(running.post(event, key=None, pipeline="signed"), 401, "signature_missing")
    problem(post(b"{", b"{"), 400, "malformed_json")
    problem(running.client.get("/v1/pipelines/signed/events"), 405, "method_not_allowed")
    problem(running.post(event, key=None), 401, "missing_key")
    assert running.post(event, key="every", pipeline="signed").status_code == 202, "keys stay good"
    assert [r.body for r in running.records()] == [event, event, event]


def test_a_workspace_that_cannot_be_is_unknown(running) -> None:
    """A name that PostgreSQL cannot hold must not look like a database that is away."""
    for name in ("%00", "a%00b", "%C3%A9", "%F0%9F%98%80", "%ff", "x" * 5000, "default%0a"):
        address = f"/v1/pipelines/flights/events?workspace={name}"
        problem(running.client.post(address, content=b"{}"), 401, "missing_key")
        assert running.post(b"{}").status_code == 202


def test_a_handshake_is_answered_and_nothing_is_kept(running, database: Database) -> None:
    apply_pipeline(database, 1, SIGNED.replace("scheme: github", "scheme: github, challenge: {type: meta}"))
    with database.transaction(Role.APP, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "signed")
        add_secret(
            connection, database.envelope, pipeline, "only-for-us-1234", purpose="challenge",
            now=datetime.now(UTC),
        )  # fmt: skip
    address = "/v1/pipelines/signed/events?hub.mode=subscribe&hub.challenge=4711&hub.verify_token="
    answer = running.client.get(address + "only-for-us-1234")
    assert (answer.status_code, answer.text) == (200, "4711")
    assert answer.headers["x-content-type-options"] == "nosniff"
    problem(running.client.get(address + "guessed"), 401, "challenge_refused")
    assert running.records() == []
    assert running.route.counts["handshake"] == 1


def test_large_bodies_arrive_whole(running) -> None:
    lines = b"\n".join(b'{"n":%d,"text":"%s"}' % (i, b"x" * 100) for i in range(30_000))
    response = running.post(lines, content_type="application/x-ndjson")
    assert response.json()["accepted"] == 30_000
    assert running.records()[0].body == lines
    assert running.route.in_flight_bytes == 0


BAD = [
    (b"", {}, 400, "empty_body"),
    (b'{"id":1', {}, 400, "malformed_json"),
    (b"not json", {}, 400, "malformed_json"),
    (b'{"id":"a\x00b"}', {}, 400, "malformed_json"),
    (b"\x00\x00", {}, 400, "malformed_json"),
    (b'{"id":"\xff\xfe"}', {}, 400, "invalid_utf8"),
    (b"[1,2,3]", {}, 400, "not_an_object"),
    (b'"event"', {}, 400, "not_an_object"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {}, 400, "nested_too_deep"),
    (b"[" * 900_000, {}, 400, "not_an_object"),
    (b'{"a":[' + b"[" * 900_000, {}, 400, "nested_too_deep"),
    (b'{}\n{"id":}\n{}', {"content_type": "application/x-ndjson"}, 400, "malformed_json"),
    (b'{"a":"' + b"x" * 10_000_000 + b'"}', {}, 413, "event_too_large"),
    (b"[" + b"{}," * 7_000_000 + b"{}]", {}, 413, "body_too_large"),
    (gzip.compress(bytes(40_000_000)), {"content_encoding": "gzip"}, 413, "compression_ratio"),
    (zstandard.compress(bytes(40_000_000)), {"content_encoding": "zstd"}, 413, "compression_ratio"),
    (gzip.compress(LARGE, 1), {"content_encoding": "gzip"}, 413, "body_too_large"),
    (zstandard.compress(LARGE), {"content_encoding": "zstd"}, 413, "body_too_large"),
    (b"not gzip", {"content_encoding": "gzip"}, 400, "broken_compression"),
    (gzip.compress(b"{}")[:-3], {"content_encoding": "gzip"}, 400, "broken_compression"),
    (b"{}", {"content_encoding": "br"}, 415, "unsupported_content_encoding"),
    (b"a=1", {"content_type": "text/plain"}, 415, "unsupported_media_type"),
    (b'{"a":1}', {"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
    (b"a=%ff", {"content_type": "application/x-www-form-urlencoded"}, 400, "malformed_form"),
    (b"{}", {"content_type": "application/json; charset=utf-16"}, 415, "unsupported_media_type"),
    (b"{}", {"key": None}, 401, "missing_key"),
    (b"{}", {"key": "slw_wrong"}, 401, "invalid_key"),
    (b"{}", {"key": "slw_aaaaaaaaaaaa_" + "A" * 43}, 401, "invalid_key"),
    (b"{}", {"key": "\u00e9" * 20}, 401, "invalid_key"),
    (b"{}", {"key": "expired"}, 401, "expired_key"),
    (b"{}", {"key": "reader"}, 403, "missing_scope"),
    (b"{}", {"pipeline": "orders"}, 403, "pipeline_not_permitted"),
    (b"{}", {"pipeline": "unknown"}, 403, "pipeline_not_permitted"),  # a key of some does not learn of others
    (b"{}", {"pipeline": "unknown", "key": "every"}, 404, "pipeline_not_found"),
    (b"{}", {"pipeline": "un%00known"}, 404, "pipeline_not_found"),
    (b"{}", {"pipeline": "a/b"}, 404, "pipeline_not_found"),
    (b"{}", {"pipeline": "x" * 5000}, 404, "pipeline_not_found"),
]


@pytest.mark.parametrize("start", range(0, len(BAD), 8))
def test_bad_input_is_told_apart_and_nothing_of_it_is_taken(running, start: int) -> None:
    for body, arguments, status, code in BAD[start : start + 8]:
        key = arguments.get("key", "good")
        if key is not None and not key.isascii():
            arguments = {**arguments, "key": None, "authorization": f"Bearer {key}".encode("latin-1")}
        response = running.post(body, **arguments)
        found = problem(response, status, code)
        if status == 401:
            assert response.headers["www-authenticate"].startswith("Bearer")
        if "ndjson" in arguments.get("content_type", ""):
            assert found["line"] == 2
        if status == 413:
            assert found["limit_ratio"] if code == "compression_ratio" else found["limit_bytes"]
        assert "slw_" not in found["detail"].replace("slw_<id>", "").replace("slw_…", "")
    assert running.records() == []
    assert running.route.in_flight_bytes == 0
    assert running.post(b"{}").status_code == 202


def test_an_event_of_a_million_keys_is_taken(serve) -> None:
    running = serve(event_bytes=16 * 1024 * 1024)
    body = b"{" + b",".join(b'"k%d":1' % i for i in range(1_000_000)) + b"}"
    assert running.post(body).status_code == 202
    assert running.records()[0].body == body


def test_other_methods_and_paths(running) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response = running.client.request(method, "/v1/pipelines/flights/events")
        problem(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
    problem(running.client.post("/v1/elsewhere"), 404, "not_found")


def test_an_archived_pipeline_takes_nothing(running, database: Database) -> None:
    assert running.post(b"{}").status_code == 202
    with database.transaction(Role.APP, workspace_id=1) as connection:
        Catalog().set_state(connection, 1, "flights", "archived")
    found = _until(running, 409)
    assert found.json()["code"] == "pipeline_archived"


def test_a_revoked_key_stops_at_once(running, database: Database) -> None:
    assert running.post(b"{}").status_code == 202
    with database.transaction(Role.APP, workspace_id=1) as connection:
        revoke_key(connection, 1, parse_key(running.keys["good"])[0], at=datetime.now(UTC))
    problem(_until(running, 401), 401, "invalid_key")


def _until(running, status: int):
    """Ask again until the cache has heard of the change."""
    deadline = time.monotonic() + 30
    while (response := running.post(b"{}")).status_code != status and time.monotonic() < deadline:
        time.sleep(0.02)
    return response


def test_a_pipeline_can_be_sent_to_right_after_it_was_applied(running, database: Database) -> None:
    problem(running.post(b"{}", key="every", pipeline="later"), 404, "pipeline_not_found")
    apply_pipeline(database, 1, "name: later\nfields:\n  - {name: a, type: string}\n")
    deadline = time.monotonic() + 30
    while (response := running.post(b"{}", key="every", pipeline="later")).status_code != 202:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.02)


def test_another_workspaces_pipeline_is_not_found(running, database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')"
        )
    apply_pipeline(database, 2, "name: theirs\nfields:\n  - {name: a, type: string}\n")
    problem(running.post(b"{}", key="every", pipeline="theirs"), 404, "pipeline_not_found")


class _FullDisk(FileOps):
    full = False

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.full:
            super().write(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return super().write(descriptor, data)


def test_a_full_disk_is_a_503_that_says_when_to_come_again(serve, tmp_path: Path) -> None:
    disk = _FullDisk()
    running = serve(SpoolWriter(tmp_path / "spool", files=disk))
    assert running.post(b'{"n":1}').status_code == 202
    disk.full = True
    for _ in range(3):
        response = running.post(b'{"n":2}')
        assert problem(response, 503, "disk_full")["retryable"]
        assert int(response.headers["retry-after"]) >= 1
    disk.full = False
    deadline = time.monotonic() + 30
    while running.post(b'{"n":3}').status_code != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [r.body for r in running.records()] == [b'{"n":1}', b'{"n":3}']


def test_a_full_spool_and_the_disk_reserve_are_503(serve, tmp_path: Path) -> None:
    full = serve(SpoolWriter(tmp_path / "full", max_bytes=100))
    assert problem(full.post(b'{"n":"%s"}' % (b"x" * 100)), 503, "spool_full")["retryable"]
    reserve = serve(SpoolWriter(tmp_path / "reserve", reserve_bytes=1 << 60))
    response = reserve.post(b"{}")
    problem(response, 503, "disk_full")
    assert "retry-after" in response.headers


def test_a_stopping_process_is_a_503(serve, tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool")
    running = serve(writer)
    writer.close()
    problem(running.post(b"{}"), 503, "spool_closed")


def test_too_much_in_flight_is_a_429(serve) -> None:
    running = serve(in_flight_bytes=100_000)
    with socket.create_connection(("127.0.0.1", running.port)) as slow:
        head = _head(running)
        slow.sendall(head.encode() + b"content-length: 90000\r\n\r\n" + b" " * 60_000)
        deadline = time.monotonic() + 30
        while running.route.in_flight_bytes < 60_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        response = running.post(b'{"n":"%s"}' % (b"x" * 50_000))
        problem(response, 429, "too_much_in_flight")
        assert response.headers["retry-after"] == "1"
    deadline = time.monotonic() + 30
    while running.route.in_flight_bytes:  # the slow client hung up in the middle of its body
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert running.route.counts["client_gone"] == 1
    assert running.post(b'{"n":"%s"}' % (b"x" * 50_000)).status_code == 202


def test_a_client_that_falls_silent_is_let_go(serve) -> None:
    running = serve(silence_s=0.2)
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as silent:
        head = _head(running)
        silent.sendall(head.encode() + b"content-length: 100\r\n\r\n{")
        answer = b""
        while part := silent.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer
    assert running.route.in_flight_bytes == 0


def test_taking_events_goes_on_while_the_database_is_away(running, database: Database, cluster) -> None:
    assert running.post(b'{"n":1}').status_code == 202
    name = database.parameters(Role.OWNER)["dbname"]
    with _admin(cluster) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            for n in range(2, 5):
                running.route._access.forget()  # as after half a minute
                assert running.post(b'{"n":%d}' % n).status_code == 202
            response = running.post(b"{}", key="every")
            problem(response, 503, "database_unavailable")
            assert response.headers["retry-after"]
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    deadline = time.monotonic() + 30
    while running.post(b"{}", key="every").status_code != 202:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _head(running) -> str:
    return (
        "POST /v1/pipelines/flights/events HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {running.keys['good']}\r\n"
    )


def _admin(cluster):
    import psycopg

    return psycopg.connect(cluster.server.url_of("postgres"), autocommit=True)
