"""Who may do what, tried: every operation of the OpenAPI document, by everybody who must not.

Operations, their permissions and the pages are found by walking the application: a new one is tried without a
line here, and one that asks for no permission fails until it is named in `OPEN` or `OWN`. Each is tried at
least five times a kind of caller, each time with other headers that proxies and careless servers believe.
What the other workspace has carries `TREASURE` in every text; nobody may be shown it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.app import _routers
from api.openapi import operations
from sluiceway.identity.permissions import ROLE_PERMISSIONS, MemberRole, Permission
from tests.support.attacks import unchecked
from tests.support.callers import NOBODY, SPOOFED, TREASURE, Planted, everything_but, person, strangers
from tests.support.routes import permissions_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

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


@pytest.fixture
def treasure(planted: Planted, matrix: Matrix) -> Planted:
    """The first workspace with something of every kind, named by the paths of the operations."""
    matrix.names.update(planted.names)
    return planted


def test_every_operation_asks_for_a_permission_or_is_named(matrix: Matrix) -> None:
    unasked = {o.name for o in matrix.operations if o.permission is None}
    assert unasked - {"read_health_stages"} == OPEN | LINKED | OWN


def test_nobody_and_whoever_was_somebody(
    world: Any, matrix: Matrix, treasure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for kind, make in strangers(world).items():
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
        callers = [everything_but(world, operation.permission, people)]
        callers += [
            person(world, role, people)
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


def _held_by_key(world: Any, client: Any) -> set[str]:
    return set(client.get("/v1/session").json()["permissions"])
