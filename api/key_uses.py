"""Keys in use, for the audit log: a key's first use from an address within an hour is told.

A process remembers what it told, so that a request costs one look into a dictionary; processes that tell the
same leave one entry (`record_once`). The event route waits for no database: what it has to tell is written
down behind its requests, and waits while the database is away.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from threading import Lock

import psycopg
import sqlalchemy as sa
from starlette.requests import HTTPConnection

from api.addresses import client_address
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Actor, Entry
from sluiceway.audit.service import USE_PAUSE, record_once
from sluiceway.identity import keys
from sluiceway.identity.contracts import KeyCaller
from sluiceway.infra.database import Database, Role, set_identity
from sluiceway.kit.errors import NotFound

log = logging.getLogger("sluiceway.api")

MOST_KNOWN = 50_000
MOST_WAITING = 10_000
TELL_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Use:
    workspace_id: int
    key_id: str
    address: str


class KeyUses:
    """What one process told. Its methods may be called from any thread, and never block on the database."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._lock = Lock()
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._waiting: list[Use] = []

    def is_known(self, key_id: str, address: str) -> bool:
        """Whether this was told within the hour."""
        until = self._known.get((key_id, address))
        return until is not None and until > self._monotonic()

    def told(self, key_id: str, address: str) -> None:
        """Remember that this was told: to be called once it is committed."""
        with self._lock:
            self._known.pop((key_id, address), None)
            self._known[key_id, address] = self._monotonic() + USE_PAUSE.total_seconds()
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def note(self, workspace_id: int, key_id: str, address: str) -> None:
        """Have a use told soon, if it was not; what is too much to wait for the database is left out."""
        if self.is_known(key_id, address):
            return
        with self._lock:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(Use(workspace_id, key_id, address))
        self.told(key_id, address)

    def flush(self) -> None:
        """Write down what waits. Blocks; what fails stays for the next time."""
        with self._lock:
            waiting, self._waiting = deque(self._waiting), []
        while waiting:
            try:
                self._write(waiting[0])
            except BaseException:
                with self._lock:
                    self._waiting = [*waiting, *self._waiting][:MOST_WAITING]
                raise
            waiting.popleft()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Write down every few seconds what waits, and at the end what is left."""
        task = asyncio.create_task(self._repeat())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._try()

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            await self._try()

    async def _try(self) -> None:
        if not self._waiting:
            return
        try:
            await asyncio.to_thread(self.flush)
        except (sa.exc.SQLAlchemyError, psycopg.Error, OSError) as error:
            log.warning("uses of keys are not in the audit log yet: %s", type(error).__name__)

    def _write(self, use: Use) -> None:
        with self._database.transaction(Role.APP, workspace_id=use.workspace_id) as conn:
            try:
                name = keys.get_key(conn, use.workspace_id, use.key_id).name
            except NotFound:
                return
            actor = Actor("key", use.key_id, name, use.address)
            record_use(conn, actor, "events")
            if use.address:
                keys.note_address(conn, use.workspace_id, use.key_id, use.address)


def note_request(request: HTTPConnection, conn: sa.Connection, key: KeyCaller) -> None:
    """Record the use of a key by a request to the API, in the transaction that looked the key up."""
    set_identity(conn, workspace_id=key.workspace_id)
    actor = Actor(
        kind="key",
        id=key.key_id,
        name=key.name,
        address=client_address(request.scope),
        user_agent=request.headers.get("user-agent", ""),
        request_id=str(getattr(request.state, "request_id", "")),
    )
    record_use(conn, actor, "api")


def record_use(conn: sa.Connection, actor: Actor, of: str) -> None:
    """`of`: what the key was used for, `api` or `events`."""
    record_once(conn, Entry(Action.KEY_USED, actor, "key", actor.id, detail={"of": of}), USE_PAUSE)
