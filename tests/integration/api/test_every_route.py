"""Rules that hold for every route, found by walking the OpenAPI document and the application."""

import re
from itertools import pairwise
from typing import Any

import pytest
from openapi_spec_validator import validate

from api.app import create_app
from api.openapi import operations
from sluiceway.identity.permissions import MemberRole, Permission, permissions_of_role

SIGNING_IN = {
    "create_session_by_code", "ask_passkey", "create_session_by_passkey", "ask_for_reset", "use_reset",
}  # fmt: skip
OPEN = SIGNING_IN | {"create_session", "accept_invitation", "open_link", "healthz", "readyz", "metrics"}
VALUES = {
    "pipeline": "orders", "key_id": "abcdefghijkm", "batch_id": "1", "suite": "orders", "slug": "board",
    "replay_id": "0198c0de-0000-7000-8000-000000000001", "kind": "pipeline", "model": "m", "seq": "1",
}  # fmt: skip
UUID = "0198c0de-0000-7000-8000-000000000001"


def _address(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda m: VALUES.get(m[1], UUID), path)


def _all(world: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [o for o in operations(world.app.openapi()) if o[2]["operationId"] != "send_events"]


def test_the_document_is_valid_openapi(world) -> None:
    document = create_app(world.services, events=lambda *_: None).openapi()  # type: ignore[arg-type]
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_operation_is_described(world) -> None:
    seen: set[str] = set()
    tags = {tag["name"] for tag in world.app.openapi()["tags"]}
    for path, method, operation in _all(world):
        where = f"{method} {path}"
        assert operation["operationId"] not in seen, where
        seen.add(operation["operationId"])
        assert operation.get("summary") and operation.get("description"), where
        assert set(operation["tags"]) <= tags and operation["tags"], where
        assert "500" in operation["responses"], where
        for status, response in operation["responses"].items():
            if int(status) >= 400 and not (path == "/readyz" and status == "503"):
                assert list(response["content"]) == ["application/problem+json"], f"{where} {status}"


def test_nobody_gets_in_unknown(world) -> None:
    client = world.client(headers={"Content-Type": "application/json"})
    for path, method, operation in _all(world):
        if operation["operationId"] in OPEN or not operation.get("security"):
            assert operation["operationId"] in OPEN or path.startswith("/v1/schemas"), path
            continue
        answer = client.request(method.upper(), _address(path), content=b"{}")
        assert answer.status_code == 401, f"{method} {path}: {answer.status_code} {answer.text}"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_every_write_asks_for_a_permission_that_a_viewer_lacks(world) -> None:
    viewer = world.person(MemberRole.VIEWER)
    free = {
        "create_session",
        "delete_session",
        "query",
        "run_query",
        "create_stream_token",
        "open_link",
        "linked_query",
        "set_preferences",
    }
    for path, method, operation in _all(world):
        if method == "get" or operation["operationId"] in free | SIGNING_IN:
            continue
        if path.startswith(
            ("/v1/me/", "/v1/session/")
        ):  # about oneself: test_second_factor, test_own_sessions
            continue
        answer = viewer.request(
            method.upper(), _address(path), content=b"{}", headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (403, 422, 415), f"{method} {path}: {answer.status_code}"
        if answer.status_code == 403:
            assert answer.json()["code"] == "not_permitted"


def test_an_ingest_key_reads_nothing(world) -> None:
    sensor = world.program("ingest")
    for path, method, operation in _all(world):
        if method == "get" and operation.get("security") and not path.startswith(("/v1/session", "/v1/me")):
            answer = sensor.get(_address(path))
            assert answer.status_code in (403, 422), f"{path}: {answer.status_code} {answer.text}"


def test_roles_only_grow() -> None:
    order = [MemberRole.VIEWER, MemberRole.ANALYST, MemberRole.EDITOR, MemberRole.ADMIN, MemberRole.OWNER]
    for low, high in pairwise(order):
        assert permissions_of_role(low) < permissions_of_role(high)
    assert permissions_of_role(MemberRole.OWNER) == frozenset(Permission)


def test_unknown_paths_answer_json(world) -> None:
    client = world.client()
    for path in ("/v1/nothing", "/v1", "/v1/pipelines/a/b/c", "/nothing", "/assets/x", "/v1/%00"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path


def test_a_method_that_is_not_offered(world) -> None:
    answer = world.client().request("PATCH", "/v1/pipelines/orders")
    assert answer.status_code == 405 and "GET" in answer.headers["allow"]


BAD_BODIES = [
    (b"{", 400, "bad_request"),
    (b'\xff\xfe{"email"', 400, "bad_request"),
    (b"[" * 50_000, 400, "bad_request"),
    (b'{"email": 1, "password": null}', 422, "invalid_input"),
    (b'{"email": "a\\u0000b@c", "password": "x"}', 422, "invalid_input"),
    (b'{"email": "\\ud800", "password": "x"}', 422, "invalid_input"),
    (b'{"email": "a@b", "password": "x", "more": 1}', 422, "invalid_input"),
    (b"1" * (4 * 1024 * 1024 + 1), 413, "too_large"),
]


def test_bad_bodies(world) -> None:
    client = world.client(headers={"Content-Type": "application/json"})
    for body, status, code in BAD_BODIES:
        answer = client.post("/v1/session", content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (body[:80], answer.text)


def test_validation_names_the_field(world) -> None:
    answer = world.person().post("/v1/keys", json={"name": "n", "scopes": ["read", "fly"]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "scopes.1"


def test_bad_parameters(world) -> None:
    client = world.person()
    for query in (
        "limit=0", "limit=x", "limit=99999", "cursor=zzz", "cursor=W10", "since=yesterday", "pipeline=%00",
    ):  # fmt: skip
        answer = client.get(f"/v1/batches?{query}")
        assert answer.status_code == 422, f"{query}: {answer.text}"


def test_an_unexpected_error_says_nothing_of_itself(world, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.person()

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 4711")

    monkeypatch.setattr("sluiceway.warehouse.batches.list_batches", explode)
    answer = client.get("/v1/batches", headers={"X-Request-Id": "mine-1"})
    assert answer.status_code == 500 and "4711" not in answer.text
    assert answer.headers["x-request-id"] == "mine-1" and "mine-1" in answer.json()["detail"]


def test_the_database_away_is_a_503_with_retry_after(world) -> None:
    client = world.program("read")
    world.services.database.dispose()
    broken = type(world.services.database)("postgresql://127.0.0.1:1/none", world.services.key)
    world.services.database = broken
    answer = client.get("/v1/pipelines")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["database"]) == (503, "failing")


def test_every_answer_carries_the_security_headers(world) -> None:
    for path in ("/sign-in", "/v1/nothing", "/healthz", "/docs", "/assets/page.css"):
        headers = world.client().get(path).headers
        policy = dict(p.split(" ", 1) for p in headers["content-security-policy"].split("; "))
        scripts = policy.get("script-src", policy["default-src"])
        assert scripts == ("'none'" if path in ("/v1/nothing", "/healthz") else "'self'"), path
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_a_request_id_that_is_not_plain_is_replaced(world) -> None:
    answer = world.client().get("/healthz", headers={"X-Request-Id": "a\tb<script>"})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_the_reference_lists_every_operation(world) -> None:
    page = world.client().get("/docs").text
    for _, _, operation in _all(world):
        assert f'id="{operation["operationId"]}"' in page
    assert "<script" not in page and "http://" not in page and "https://" not in page
