"""`Idempotency-Key`: a POST that is sent again gets the answer of the first, and is not done twice.

A router takes part with `route_class=IdempotentRoute`. An answer can hold a secret (a new key), so it is
kept sealed (`sluiceway.infra.envelope`), and for a day only.
"""

import hashlib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from api import deps
from api.errors import problem_response
from api.security import identify
from api.services import ApiServices
from api.viewing import look
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import Conflict, InvalidInput, SluicewayError

HEADER = "idempotency-key"
KEPT = timedelta(hours=24)
ABANDONED = timedelta(minutes=5)
"""After this an unfinished first request is taken to have died with its process."""
_KEPT_HEADERS = ("content-type", "location", "etag", "cache-control")


class KeyReused(InvalidInput):
    code = "idempotency_key_reused"
    title = "This Idempotency-Key belongs to another request"


class StillRunning(Conflict):
    code = "idempotent_request_running"
    title = "The first request with this Idempotency-Key is still at work"
    retryable = True


@dataclass(frozen=True, slots=True)
class _Ticket:
    """One caller's key and the request it stands for."""

    caller: Caller
    key: str
    digest: bytes

    @property
    def parameters(self) -> dict[str, Any]:
        return {"w": self.caller.workspace_id, "s": self.caller.subject, "k": self.key, "h": self.digest}


class IdempotentRoute(APIRoute):
    """A route whose POSTs honour `Idempotency-Key`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        asked = tuple(_permissions(self.dependant))

        async def handler(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or request.method != "POST":
                return await handle(request)
            if not 1 <= len(key) <= 200:
                raise InvalidInput("The Idempotency-Key should have 1 to 200 characters.")
            return await _once(request, key, handle, asked)

        return handler


def _permissions(dependant: Any) -> Iterator[Permission]:
    """What a route's dependencies ask for."""
    for inner in dependant.dependencies:
        if (found := getattr(inner.call, "permission", None)) is not None:
            yield found
        yield from _permissions(inner)


def _identified(request: Request, services: ApiServices, asked: tuple[Permission, ...]) -> Caller:
    """Who is asking, and may still: a kept answer is no way round what was taken from them since."""
    found = identify(request, services)
    if asked:
        eyes = look(request, services, found)
        for permission in asked:
            eyes.check(permission)
    return found


async def _once(
    request: Request,
    key: str,
    handle: Callable[[Request], Coroutine[Any, Any, Response]],
    asked: tuple[Permission, ...],
) -> Response:
    services = deps.services(request)
    caller = await run_in_threadpool(_identified, request, services, asked)
    content = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body()
    ticket = _Ticket(caller, key, hashlib.sha256(content).digest())
    kept = await run_in_threadpool(_begin, services, ticket)
    if kept is not None:
        return kept
    try:
        response = await handle(request)
    except SluicewayError as error:
        response = problem_response(request, error)
    except BaseException:
        await run_in_threadpool(_forget, services, ticket)
        raise
    if response.status_code in (401, 403, 429) or response.status_code >= 500:
        await run_in_threadpool(_forget, services, ticket)
    else:
        await run_in_threadpool(_keep, services, ticket, response)
    return response


def _begin(services: ApiServices, ticket: _Ticket) -> Response | None:
    """Take the key for this request, or give the answer that is kept for it."""
    now = services.clock.now()
    times = {"now": now, "old": now - KEPT, "dead": now - ABANDONED}
    with deps.catalog(services, ticket.caller) as conn:
        conn.execute(
            sa.text(
                "DELETE FROM app.idempotency_keys WHERE workspace_id = :w"
                " AND (created_at < :old OR (status IS NULL AND created_at < :dead))"
            ),
            {"w": ticket.caller.workspace_id, **times},
        )
        taken = conn.execute(
            sa.text(
                "INSERT INTO app.idempotency_keys (workspace_id, subject, key, request_hash, created_at)"
                " VALUES (:w, :s, :k, :h, :now) ON CONFLICT DO NOTHING RETURNING 1"
            ),
            {**ticket.parameters, **times},
        ).first()
        if taken is not None:
            return None
        row = conn.execute(
            sa.text(
                "SELECT request_hash, status, answer FROM app.idempotency_keys"
                " WHERE workspace_id = :w AND subject = :s AND key = :k"
            ),
            ticket.parameters,
        ).first()
    if row is not None and bytes(row.request_hash) != ticket.digest:
        raise KeyReused("Use a new Idempotency-Key for a new request.")
    if row is None or row.status is None:
        raise StillRunning("Ask again in a moment.", retry_after_s=1)
    return _open(services, ticket, row.status, bytes(row.answer))


def _keep(services: ApiServices, ticket: _Ticket, response: Response) -> None:
    sealed = _seal(services, ticket, response)
    with deps.catalog(services, ticket.caller) as conn:
        conn.execute(
            sa.text(
                "UPDATE app.idempotency_keys SET status = :status, answer = :answer"
                " WHERE workspace_id = :w AND subject = :s AND key = :k AND request_hash = :h"
            ),
            {**ticket.parameters, "status": response.status_code, "answer": sealed},
        )


def _forget(services: ApiServices, ticket: _Ticket) -> None:
    with deps.catalog(services, ticket.caller) as conn:
        conn.execute(
            sa.text(
                "DELETE FROM app.idempotency_keys"
                " WHERE workspace_id = :w AND subject = :s AND key = :k AND request_hash = :h"
            ),
            ticket.parameters,
        )


def _seal(services: ApiServices, ticket: _Ticket, response: Response) -> bytes:
    headers = {k: v for k, v in response.headers.items() if k in _KEPT_HEADERS}
    plain = orjson.dumps(headers) + b"\n" + bytes(response.body)
    return services.database.envelope.seal(plain, _context(ticket))


def _open(services: ApiServices, ticket: _Ticket, status: int, sealed: bytes) -> Response:
    plain = services.database.envelope.open(sealed, _context(ticket))
    head, _, body = plain.partition(b"\n")
    return Response(body, status, {**orjson.loads(head), "Idempotency-Replayed": "true"})


def _context(ticket: _Ticket) -> str:
    """What an answer is bound to; `sluiceway.infra.rotation` says the same in SQL."""
    return f"{ticket.caller.workspace_id}/{ticket.caller.subject}/{ticket.key}"
