"""Who may do what, tried: every operation of the OpenAPI document, by everybody who must not.

Operations, their permissions and the pages are found by walking the application: a new one is tried without a
line here, and one that asks for no permission fails until it is named in `OPEN` or `OWN`. Each is tried at
least five times a kind of caller, each time with other headers that proxies and careless servers believe.
What the other workspace has carries `TREASURE` in every text; nobody may be shown it.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from fastapi.routing import APIRoute

from api.app import _routers, create_app
from api.openapi import operations
from sluiceway.identity import members, roles, service
from sluiceway.identity.permissions import GRANTABLE, ROLE_PERMISSIONS, MemberRole, Permission
from sluiceway.infra.database import Role
from tests.integration.api.conftest import PASSWORD
from tests.lint.test_audited_routes import permissions_of
from tests.support.attacks import unchecked

pytestmark = pytest.mark.slow

TREASURE = "zq7treasure"
NOBODY = "0198c0de-0000-7000-8000-000000000001"
# Answers everybody, and shows nothing of anybody.
OPEN = frozenset({
    "healthz", "readyz", "metrics", "get_schema", "create_session", "create_session_by_code", "ask_passkey",
    "create_session_by_passkey", "ask_for_reset", "use_reset", "accept_invitation", "open_link",
})  # fmt: skip
# With a link's own token.
LINKED = frozenset({"linked_dashboard", "linked_query", "linked_changes"})
# About whoever asks: any person, and of some also any key.
OWN = frozenset({
    "change_me", "get_preferences", "set_preferences", "move_session", "leave_workspace", "get_own_sign_in",
    "set_own_password", "begin_totp", "confirm_totp", "remove_totp", "make_recovery_codes",
    "ask_for_new_passkey", "add_passkey", "rename_passkey", "remove_passkey", "forget_devices",
    "list_own_sessions", "end_other_sessions", "end_own_session", "export_me", "delete_me", "confirm_session",
    "ask_confirming_passkey", "get_session", "delete_session", "get_me",
})  # fmt: skip
SPOOFED: tuple[dict[str, str], ...] = (
    {},
    {"X-Sluiceway-User": '{"id":"1","role":"owner","workspace_id":1}'},
    {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost", "X-Real-IP": "127.0.0.1"},
    {"X-Workspace-Id": "1", "X-Workspace": "main", "X-Forwarded-User": "owner1@example.com"},
)
STREAMS = re.compile(r"/(stream|live)$")


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    name: str
    permission: Permission | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Matrix:
    """Every operation, what stands for its path's parameters, and how often each kind was tried."""

    operations: list[Operation]
    names: dict[str, str] = field(default_factory=dict)
    tried: Counter[str] = field(default_factory=Counter)

    def address(self, operation: Operation) -> str:
        return re.sub(r"\{(\w+)\}", lambda m: self.names.get(m[1], NOBODY), operation.path)

    def attempt(self, kind: str, client: Any, operation: Operation, spoofed: dict[str, str]) -> Any:
        self.tried[kind] += 1
        headers = {"Content-Type": "application/json", **spoofed}
        content = None if operation.method == "GET" else b"{}"
        return client.request(operation.method, self.address(operation), content=content, headers=headers)


@pytest.fixture
def matrix(world: Any) -> Matrix:
    asked: dict[tuple[str, str], Permission | None] = {}
    for router in _routers().values():
        for route in router.routes:
            if isinstance(route, APIRoute):
                permission = next(iter(permissions_of(route.dependant)), None)
                asked.update({(method, route.path): permission for method in route.methods or ()})
    found = [
        Operation(method.upper(), path, told["operationId"], asked.get((method.upper(), path)))
        for path, method, told in operations(world.app.openapi())
        if told["operationId"] != "send_events"
    ]
    assert len(found) > 120
    return Matrix(found)


@pytest.fixture(autouse=True)
def no_limits(world: Any) -> None:
    """So many requests are many more than a person may make a minute."""
    many = 10_000_000
    world.services.settings = replace(
        world.services.settings,
        user_requests_per_minute=many, key_requests_per_minute=many, address_requests_per_minute=many,
    )  # fmt: skip
    world.app = create_app(world.services)


@pytest.fixture
def treasure(world: Any, matrix: Matrix) -> Iterator[Any]:
    """The first workspace with something of every kind, and its owner; at the end all is still there."""
    owner = world.person()
    world.apply(PIPELINE)

    def make(path: str, body: Any, method: str = "POST", **options: Any) -> Any:
        answer = owner.request(method, path, json=body, **options)
        assert answer.status_code in (200, 201, 204), f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    query = {"pipeline": TREASURE, "measures": [{"field": "amount", "agg": "sum"}]}
    place = {"x": 0, "y": 0, "w": 3, "h": 2}
    board = {
        "name": TREASURE, "title": TREASURE,
        "widgets": [{"id": "w", "title": TREASURE, "type": "stat", "query": query, "layout": place}],
    }  # fmt: skip
    answer = owner.put(
        f"/v1/dashboards/{TREASURE}", content=_yaml({"kind": "Dashboard", **board}),
        headers={"Content-Type": "text/yaml"},
    )  # fmt: skip
    assert answer.status_code in (200, 201), answer.text
    rule = {"kind": "Rule", "name": TREASURE, "pipeline": TREASURE, "roles": ["viewer"], "rows": "shop = 'a'"}
    answer = owner.put(f"/v1/rules/{TREASURE}", content=_yaml(rule), headers={"Content-Type": "text/yaml"})
    assert answer.status_code in (200, 201), answer.text
    key = make("/v1/keys", {"name": TREASURE, "scopes": ["read"]})["info"]
    make("/v1/teams", {"name": TREASURE, "description": TREASURE})
    make("/v1/roles", {"name": TREASURE, "permissions": ["data:read"]})
    account = make("/v1/service-accounts", {"name": TREASURE, "roles": ["viewer"]})
    link = make(f"/v1/dashboards/{TREASURE}/links", {"name": TREASURE})["info"]
    invitation = make("/v1/invitations", {"email": f"{TREASURE}@example.com"})["invitation"]
    session = owner.get("/v1/me/sessions").json()[0]
    member = owner.get("/v1/session").json()["user_id"]
    matrix.names.update({
        "pipeline": TREASURE, "slug": TREASURE, "name": TREASURE, "suite": TREASURE, "model": TREASURE,
        "key_id": key["id"], "account_id": account["id"], "link_id": link["id"],
        "invitation_id": invitation["id"], "session_id": session["id"], "user_id": member,
        "workspace_id": "1", "kind": "pipeline", "seq": "1", "batch_id": "1", "group_id": NOBODY,
    })  # fmt: skip
    looks = (
        "/v1/keys",
        "/v1/dashboards",
        "/v1/rules",
        "/v1/teams",
        "/v1/roles",
        "/v1/pipelines",
        "/v1/members",
    )
    before = {path: _names(owner.get(path).json()["items"]) for path in looks}
    assert TREASURE in str(before)
    yield owner
    assert {path: _names(owner.get(path).json()["items"]) for path in looks} == before


def _names(items: list[dict[str, Any]]) -> list[Any]:
    told = ("id", "slug", "name", "title", "state", "role", "permissions", "version", "revoked_at")
    mine = [item for item in items if TREASURE in str(item) or item.get("email") == "owner1@example.com"]
    return [{name: item.get(name) for name in told} for item in mine]


def _yaml(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document)  # JSON is YAML


PIPELINE = f"""\
kind: Pipeline
name: {TREASURE}
title: {TREASURE}
event: {{id: id, time: at}}
fields:
  - {{name: shop, type: string, role: dimension}}
  - {{name: amount, type: number, role: measure}}
"""


def test_every_operation_asks_for_a_permission_or_is_named(matrix: Matrix) -> None:
    unasked = {o.name for o in matrix.operations if o.permission is None}
    assert unasked - {"read_health_stages"} == OPEN | LINKED | OWN


def test_nobody_and_whoever_was_somebody(
    world: Any, matrix: Matrix, treasure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers = {
        "anonymous": lambda: world.client(checked=False),
        "a made-up key": lambda: _with_key(world, "slw_abcdefghijkm_" + "x" * 43),
        "another scheme": lambda: world.client(checked=False, headers={"Authorization": "Basic b3duZXI6"}),
        "a made-up session": lambda: world.client(
            checked=False, headers={"Cookie": f"sluiceway_session={'s' * 43}", "X-Sluiceway-Request": "1"}
        ),
        "an expired key": lambda: _expired_key(world),
        "a revoked key": lambda: _revoked_key(world),
        "an ended session": lambda: _ended_session(world),
        "a session past its end": lambda: _old_session(world),
        "somebody locked out": lambda: _locked_out(world),
    }
    wrong = []
    for kind, make in strangers.items():
        client = make()
        for operation in matrix.operations:
            if operation.name in OPEN:
                continue
            for spoofed in SPOOFED:
                answer = matrix.attempt(kind, client, operation, spoofed)
                # A key that was never looked up: that routes of links take none is said first.
                expected = (401, 403) if operation.name in LINKED else (401,)
                if answer.status_code not in expected or TREASURE in answer.text:
                    wrong.append(f"{kind}: {operation}: {answer.status_code} {answer.text[:120]}")
    assert wrong == [], "\n".join(wrong[:40])
    _tell(capsys, matrix)


def test_who_lacks_the_permission(
    world: Any, matrix: Matrix, treasure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """A role that holds everything else, every lower built-in role, and keys of every other scope."""
    wrong = []
    people: dict[Any, Any] = {}
    keys = {
        scope: unchecked(world, world.program(scope)) for scope in ("ingest", "read", "manage", "provision")
    }
    scoped = {scope: _held_by_key(world, client) for scope, client in keys.items()}
    for operation in matrix.operations:
        if operation.permission is None:
            continue
        callers = [_everything_but(world, operation.permission, people)]
        callers += [
            _person(world, role, people)
            for role, held in ROLE_PERMISSIONS.items()
            if operation.permission not in held and role is not MemberRole.OWNER
        ]
        for number, client in enumerate(callers):
            for spoofed in SPOOFED if number == 0 else SPOOFED[:1]:
                answer = matrix.attempt("a lower role", client, operation, spoofed)
                if answer.status_code != 403 or TREASURE in answer.text:
                    wrong.append(f"{operation}: {answer.status_code} {answer.text[:160]}")
        for scope, client in keys.items():
            if operation.permission in scoped[scope]:
                continue
            for spoofed in SPOOFED:
                answer = matrix.attempt("a key of another scope", client, operation, spoofed)
                if answer.status_code != 403 or TREASURE in answer.text:
                    wrong.append(f"key {scope}: {operation}: {answer.status_code} {answer.text[:160]}")
    assert wrong == [], "\n".join(wrong[:40])
    _tell(capsys, matrix)


def test_the_owner_of_another_workspace(
    world: Any, matrix: Matrix, treasure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = unchecked(world, world.person("owner", workspace_id=2))
    scopes = ("read", "manage", "provision")
    keys = [unchecked(world, world.program(scope, workspace_id=2)) for scope in scopes]
    wrong = []
    for operation in matrix.operations:
        if operation.name in OPEN | OWN | LINKED | _COUNTED:
            continue
        theirs = "{" in operation.path
        for client in (stranger, *keys):
            for spoofed in SPOOFED:
                answer = matrix.attempt("another workspace", client, operation, spoofed)
                # This application has no broker: its streams say so before they look for the pipeline.
                no_stream = answer.status_code == 503 and STREAMS.search(operation.path) is not None
                refused = 400 <= answer.status_code < 500 or no_stream
                allowed = refused or (answer.status_code == 200 and operation.name in _OF_NOBODY)
                if TREASURE in answer.text.replace(f"/{TREASURE}", "").replace(f"'{TREASURE}'", ""):
                    wrong.append(f"{operation}: shows it: {answer.text[:200]}")
                elif (answer.status_code >= 500 and not no_stream) or (theirs and not allowed):
                    wrong.append(f"{operation}: {answer.status_code} {answer.text[:160]}")
    assert wrong == [], "\n".join(wrong[:40])
    _tell(capsys, matrix)


# With a name in the address that is of no workspace: schemas of SCIM and of documents.
_OF_NOBODY = frozenset({"get_schema"})
# By a number that each workspace counts for itself: what is answered is the caller's own.
_COUNTED = frozenset({"get_entry"})


def _tell(capsys: pytest.CaptureFixture[str], matrix: Matrix) -> None:
    assert all(count >= 5 for count in matrix.tried.values())
    with capsys.disabled():
        told = ", ".join(f"{count:,} by {kind}" for kind, count in matrix.tried.items())
        print(f"\n{len(matrix.operations)} operations, attempts: {told}")


def _with_key(world: Any, text: str) -> Any:
    return world.client(checked=False, headers={"Authorization": f"Bearer {text}"})


def _expired_key(world: Any) -> Any:
    text = world.key("read", "manage", expires_at=datetime.now(UTC) + timedelta(hours=1))
    end = "UPDATE app.api_keys SET expires_at = now() - interval '1 s' WHERE id = :id"
    world.execute(end, id=text.split("_")[1])
    return _with_key(world, text)


def _revoked_key(world: Any) -> Any:
    text = world.key("read", "manage")
    world.execute("UPDATE app.api_keys SET revoked_at = now() WHERE id = :id", id=text.split("_")[1])
    return _with_key(world, text)


def _ended_session(world: Any) -> Any:
    client = world.person("admin")
    cookies = dict(client.http.cookies)
    client.delete("/v1/session")
    found = unchecked(world, client)
    for name, value in cookies.items():
        found.http.cookies.set(name, value)
    return found


def _old_session(world: Any) -> Any:
    client = world.person("editor")
    world.execute(
        "UPDATE app.sessions SET expires_at = now() - interval '1 s', created_at = now() - interval '2 s'"
        " WHERE user_id = (SELECT id FROM app.users WHERE email = 'editor1@example.com')"
    )
    world.services.extra.pop("sessions", None)
    return unchecked(world, client)


def _locked_out(world: Any) -> Any:
    client = world.person("analyst")
    world.execute("UPDATE app.users SET disabled_at = now() WHERE email = 'analyst1@example.com'")
    world.services.extra.pop("sessions", None)
    return unchecked(world, client)


def _held_by_key(world: Any, client: Any) -> set[str]:
    return set(client.get("/v1/session").json()["permissions"])


def _person(world: Any, role: MemberRole, people: dict[Any, Any]) -> Any:
    if role not in people:
        people[role] = unchecked(world, world.person(role))
    return people[role]


def _everything_but(world: Any, permission: Permission, people: dict[Any, Any]) -> Any:
    if permission not in people:
        others = sorted(GRANTABLE - {permission})
        slug = "but-" + re.sub("[^a-z]", "-", permission.value)
        email = f"{slug}@example.com"
        with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
            roles.create_role(conn, 1, name=slug, slug=slug, permissions=others, giver=None)
            user = service.create_user(conn, email, slug, PASSWORD, "viewer", 1)
            members.change_member(
                conn, 1, user.id, members.Change(role=slug), giver=None, now=datetime.now(UTC)
            )
        client = world.client(headers={"X-Sluiceway-Request": "1", "Origin": "http://localhost:8000"})
        answer = client.post("/v1/session", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        people[permission] = unchecked(world, client)
    return people[permission]
