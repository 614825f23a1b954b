"""The application over a database of the test's own, and clients that speak to it as people and programs."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio.from_thread
import httpx
import pytest
import sqlalchemy as sa

from api.app import create_app
from api.openapi import operations
from api.services import ApiServices
from sluiceway.identity import keys, service
from sluiceway.identity.permissions import MemberRole, Scope
from sluiceway.infra.clock import FixedClock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings
from tests.support.audited import WRITTEN
from tests.support.planted import PLANTED
from tests.support.streams import Served, serving

PASSWORD = "correct horse battery"

PIPELINE = """\
kind: Pipeline
name: orders          # a comment that has to survive
title: Orders
event: {id: id, time: at}
fields:
  - {name: shop, type: string, role: dimension}
  - {name: amount, type: number, role: measure, unit: EUR}
"""


class Declared:
    """What the OpenAPI document says; every answer in these tests is held against it."""

    _made: "ClassVar[Declared | None]" = None

    def __init__(self, document: dict[str, Any]) -> None:
        self.operations = [
            (re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path) + r"\Z"), method.upper(), operation)
            for path, method, operation in operations(document)
        ]

    @classmethod
    def of(cls, app: Any) -> "Declared":
        if cls._made is None:  # the same for every application of a run
            cls._made = cls(app.openapi())
        return cls._made

    def check(self, method: str, path: str, answer: httpx.Response) -> None:
        if answer.status_code >= 400 and "text/html" not in answer.headers.get("content-type", ""):
            check_problem(answer)
        for pattern, verb, operation in self.operations:
            if verb == method and pattern.match(path.split("?")[0]):
                declared = operation["responses"].get(str(answer.status_code))
                assert declared, f"{method} {path}: {answer.status_code} is not declared"
                media = answer.headers.get("content-type", "").split(";")[0]
                assert not media or media in declared.get("content", {}), f"{method} {path}: {media}"


def check_problem(answer: httpx.Response) -> None:
    """Problem details (RFC 9457) with all we promise."""
    if answer.request.url.path == "/readyz":
        return
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"] == f"urn:sluiceway:problem:{body['code']}"
    assert body["title"] and body["detail"].strip()
    if "idempotency-replayed" not in answer.headers:  # else it is the first answer, word for word
        assert body["request_id"] == answer.headers["x-request-id"]
    assert isinstance(body["retryable"], bool)
    assert (answer.status_code in (429, 503)) <= ("retry-after" in answer.headers)
    assert "Traceback" not in answer.text and "sqlalchemy" not in answer.text.lower()


class Client:
    """A synchronous client of an ASGI application, without a socket."""

    def __init__(
        self,
        app: Any,
        portal: Any,
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
        checked: bool = True,
    ):
        self._portal = portal
        self._declared = Declared.of(app) if checked else None
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 5000))
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://localhost:8000", headers=headers, follow_redirects=False
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        told = WRITTEN.recorded
        answer = self._portal.call(lambda: self.http.request(method, path, **options))
        WRITTEN.note(method, path, answer, told)
        PLANTED.check_answer(answer.request, answer)
        if self._declared is not None:
            self._declared.check(method, path, answer)
        return answer

    def __getattr__(self, method: str) -> Callable[..., httpx.Response]:
        if method not in ("get", "post", "put", "delete", "patch", "head", "options"):
            raise AttributeError(method)
        return lambda path, **options: self.request(method.upper(), path, **options)


@dataclass
class World:
    """Everything a test of the API needs."""

    services: ApiServices
    app: Any
    portal: Any

    def client(self, **options: Any) -> Client:
        return Client(self.app, self.portal, **options)

    def person(
        self, role: MemberRole | str = MemberRole.OWNER, workspace_id: int = 1, name: str = ""
    ) -> Client:
        """A signed-in browser of someone with this role: always the same one, but for each `name` another."""
        email = f"{MemberRole(role)}{workspace_id}{name}@example.com"
        with self.services.database.transaction(Role.APP, workspace_id=workspace_id) as conn:
            if service.find_user(conn, email) is None:
                service.create_user(conn, email, "Ada", PASSWORD, role, workspace_id)
        found = self.client(headers={"X-Sluiceway-Request": "1", "Origin": "http://localhost:8000"})
        answer = found.post("/v1/session", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return found

    def key(self, *scopes: Scope | str, workspace_id: int = 1, **options: Any) -> str:
        with self.services.database.transaction(Role.APP, workspace_id=workspace_id) as conn:
            return keys.create_key(conn, workspace_id, "test", scopes, **options)

    def program(self, *scopes: Scope | str, workspace_id: int = 1, **options: Any) -> Client:
        text = self.key(*scopes, workspace_id=workspace_id, **options)
        return self.client(headers={"Authorization": f"Bearer {text}"})

    def apply(self, source: str = PIPELINE, workspace_id: int = 1) -> None:
        from sluiceway.warehouse.schema import apply_pipeline

        apply_pipeline(self.services.database, workspace_id, source)

    def execute(self, text: str, **values: Any) -> sa.CursorResult[Any]:
        """As the owner, whom no policy stops."""
        with self.services.database.engine(Role.OWNER).begin() as conn:
            return conn.execute(sa.text(text), values)

    def stand_at(self, clock: FixedClock | SystemClock) -> None:
        self.services.clock = clock


@pytest.fixture(scope="session")
def portal() -> Iterator[Any]:
    with anyio.from_thread.start_blocking_portal() as found:
        yield found


@pytest.fixture
def world(database: Database, settings: Settings, secret_key: SecretKey, portal: Any) -> Iterator[World]:
    """What a test writes well over the API has to leave something in the audit log."""
    services = ApiServices(settings=settings, database=database, key=secret_key)
    found = World(services, create_app(services), portal)
    found.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
    WRITTEN.done.clear()
    yield found
    assert WRITTEN.silent() == [], "went well and left nothing in the audit log"


@pytest.fixture
def served(database: Database, settings: Settings, secret_key: SecretKey) -> Iterator[Served]:
    """The application with its streams, over real sockets."""
    with serving(database, settings, secret_key) as found:
        yield found
