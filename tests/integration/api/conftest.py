"""The application over a database of the test's own, and clients that speak to it as people and programs do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio.from_thread
import httpx
import pytest
import sqlalchemy as sa

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity import keys, service
from sluiceway.identity.permissions import MemberRole, Scope
from sluiceway.infra.clock import FixedClock, SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings

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


class Client:
    """A synchronous client of an ASGI application, without a socket."""

    def __init__(self, app: Any, portal: Any, headers: dict[str, str] | None = None, address: str = "127.0.0.1"):
        self._portal = portal
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(address, 5000))
        self.http = httpx.AsyncClient(
            transport=transport, base_url="http://localhost:8000", headers=headers, follow_redirects=False
        )

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._portal.call(lambda: self.http.request(method, path, **options))

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

    def person(self, role: MemberRole | str = MemberRole.OWNER, workspace_id: int = 1) -> Client:
        """A signed-in browser of someone with this role."""
        email = f"{MemberRole(role)}{workspace_id}@example.com"
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
def world(database: Database, settings: Settings, secret_key: SecretKey, portal: Any) -> World:
    services = ApiServices(settings=settings, database=database, key=secret_key)
    found = World(services, create_app(services), portal)
    found.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
    return found
