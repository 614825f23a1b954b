"""Routes and commands that write reach the audit log: found by following what their functions can call."""

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, cast

import pytest
import typer
from fastapi.routing import APIRoute

from api.app import create_app
from api.routes import pipelines
from api.services import ApiServices
from sluiceway.audit.service import record, record_once, record_raw
from sluiceway.identity.permissions import Permission
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import load_settings
from sluiceway.runtime import cli
from tests.support.routes import permissions_of

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
KEY = SecretKey(b"a key for tests only, long enough to pass")
RECORDING = (record, record_once, record_raw)
OURS = ("api", "sluiceway")
READING = {
    "run_query": "an answer is looked at, and nothing is kept of it",
    "linked_query": "the same, by the holder of a link, whose opening is told",
    "search": "SCIM's way to list with a body",
    "check_provider": "a provider is asked what it offers",
    "ask_passkey": "a challenge; what is done with it is told",
    "ask_confirming_passkey": "a challenge",
    "ask_for_new_passkey": "a challenge",
    "begin_totp": "a secret that nothing opens yet; the first code from it is told",
    "new_app_form": "the same, as a page",
}
"""Operations that are sent like writes and change nothing that stays."""
ADMINISTRATIVE = frozenset(
    {
        Permission.KEY_READ, Permission.KEY_MANAGE, Permission.MEMBER_READ, Permission.MEMBER_MANAGE,
        Permission.ROLE_MANAGE, Permission.SESSION_MANAGE, Permission.SERVICE_ACCOUNT_MANAGE,
        Permission.RULE_READ, Permission.RULE_MANAGE, Permission.AUDIT_READ, Permission.SIGN_IN_MANAGE,
        Permission.USAGE_READ, Permission.QUOTA_MANAGE, Permission.PROVISION, Permission.DASHBOARD_SHARE,
    }
)  # fmt: skip
"""What asks for one of these is administration: looking at it is told, too."""
THE_SAME_FOR_EVERYONE = frozenset(
    {
        "list_actions", "list_permissions", "service_provider_config", "list_schemas", "get_schema",
        "list_resource_types", "get_resource_type",
    }
)  # fmt: skip

READING_COMMANDS = frozenset(
    {
        "audit head", "db-url", "doctor", "healthy", "identity-provider check", "role permissions",
        "rule show", "rule versions", "schema", "secrets status", "usage", "verify",
    }
)  # fmt: skip
"""They print, as all commands called `list` do: whoever runs them can read the database itself."""
OTHER_COMMANDS = {
    "apply": "each kind of file has its own way, which records (test_audit_command)",
    "rule apply": "the same",
    "up": "starts processes", "process": "starts one", "dbt": "starts dbt", "psql": "starts psql",
}  # fmt: skip


def reaches_the_log(function: FunctionType) -> bool:
    """Whether the function, or one that it can call, records. Dependencies are not followed."""
    seen: set[FunctionType] = set()
    waiting = [function]
    while waiting:
        found = waiting.pop()
        if found in RECORDING:
            return True
        if found not in seen:
            seen.add(found)
            waiting += called_by(found)
    return False


def called_by(function: FunctionType) -> Iterator[FunctionType]:
    """Functions of ours that its body names: globals, parts of modules, methods of classes."""
    names = set(names_of(function.__code__))
    known = inspect.unwrap(function).__globals__
    for name in names & known.keys():
        found = known[name]
        if isinstance(found, ModuleType):
            yield from (f for n in names if ours(f := getattr(found, n, None)))
        elif isinstance(found, type):
            yield from (f for n in names if ours(f := vars(found).get(n)))
        elif ours(found):
            yield found
    # What it imports for itself is imported by name.
    for constant in imports_of(function.__code__):
        module = __import__(constant, fromlist=["_"])
        yield from (f for n in names if ours(f := getattr(module, n, None)))


def names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)


def imports_of(code: CodeType) -> Iterator[str]:
    yield from (name for name in names_of(code) if name.startswith(tuple(f"{part}." for part in OURS)))


def ours(value: object) -> bool:
    return isinstance(value, FunctionType) and value.__module__.split(".")[0] in OURS


@pytest.fixture(scope="module")
def routes() -> list[APIRoute]:
    services = ApiServices(load_settings({}), Database("", KEY), KEY)
    found: list[APIRoute] = []
    waiting: list[Any] = [create_app(services).api]
    while waiting:
        for route in waiting.pop().routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif hasattr(route, "original_router"):  # a router that was included
                waiting.append(route.original_router)
    return found


def test_every_write_route_reaches_the_log(routes: list[APIRoute]) -> None:
    writing = [route for route in routes if route.methods & WRITES]
    assert len(writing) >= 20
    silent = [
        f"{'/'.join(sorted(route.methods))} {route.path} ({route.name})"
        for route in writing
        if route.name not in READING and not reaches_the_log(cast(FunctionType, route.endpoint))
    ]
    assert silent == [], "these write and say nothing to the audit log (api.auditing.note)"


def test_every_administrative_read_reaches_the_log(routes: list[APIRoute]) -> None:
    reading = [r for r in routes if "GET" in r.methods and ADMINISTRATIVE & set(permissions_of(r.dependant))]
    assert len(reading) >= 20
    silent = [
        f"{route.path} ({route.name})"
        for route in reading
        if route.name not in THE_SAME_FOR_EVERYONE and not reaches_the_log(cast(FunctionType, route.endpoint))
    ]
    assert silent == [], "these show what is administered and do not say so (api.auditing.note_read)"


def test_the_exceptions_are_routes(routes: list[APIRoute]) -> None:
    assert READING.keys() <= {route.name for route in routes}


def commands(app: typer.Typer, prefix: str = "") -> Iterator[tuple[str, FunctionType]]:
    for command in app.registered_commands:
        function = cast(FunctionType, command.callback)
        yield f"{prefix}{command.name or function.__name__}", function
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def test_every_command_that_changes_something_reaches_the_log() -> None:
    known = dict(commands(cli.app))
    assert READING_COMMANDS | OTHER_COMMANDS.keys() <= known.keys()
    silent = [
        name
        for name, function in known.items()
        if not name.endswith(" list")
        and name not in READING_COMMANDS
        and name not in OTHER_COMMANDS
        and not reaches_the_log(function)
    ]
    assert silent == [], "these change something and do not say so (runtime.auditing.note_command)"


def test_a_route_that_says_nothing_is_found() -> None:
    assert not reaches_the_log(cast(FunctionType, pipelines.list_versions))
    assert reaches_the_log(cast(FunctionType, pipelines.pause_pipeline))
