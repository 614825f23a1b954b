"""The one way to the database: a login role for each kind of work, and transactions that say for whom.

Roles: `owner` (the address's own account: migrations, DDL), `writer` (loader and jobs), `app` (the API's
catalog work), `reader` (queries: read-only with a statement timeout), `modeler` (dbt), `orchestrator`
(Dagster's storage), `sign_in` (a password's hash, nothing else). None but the owner can bypass row-level
security; `transaction` sets, for its own duration only, the workspace the policies let through.
"""

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from functools import cached_property
from threading import Lock
from typing import Any, Protocol, cast

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sluiceway.infra.envelope import Envelope
from sluiceway.infra.keyring import Keyring, StoredKey
from sluiceway.infra.keys import SecretKey


class Role(StrEnum):
    OWNER = "owner"
    WRITER = "writer"
    APP = "app"
    READER = "reader"
    MODELER = "modeler"
    ORCHESTRATOR = "orchestrator"
    SIGN_IN = "sign_in"

    @property
    def login(self) -> str:
        return f"sluiceway_{self.value}"


SERVICE_ROLES = tuple(role for role in Role if role is not Role.OWNER)
READER_TIMEOUT_MS = 30_000
_WRITING = (Role.OWNER, Role.WRITER, Role.APP)

WRITER_IDLE_MS = 300_000
"""A writer's transaction that does nothing for so long is cut: its process hangs, and holds locks."""

# A peer that is gone without a word is noticed in half a minute at both ends: what it held is free again.
# Unix sockets pay no heed to any of it.
_KEEPALIVES = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_SERVER_KEEPALIVES = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
_SESSION_OPTIONS = {
    Role.WRITER: f"-c idle_in_transaction_session_timeout={WRITER_IDLE_MS}",
    Role.READER: f"-c default_transaction_read_only=on -c statement_timeout={READER_TIMEOUT_MS}",
    Role.ORCHESTRATOR: "-c search_path=dagster",
}


class Eyes(Protocol):
    """With whose eyes data is read (`sluiceway.identity.contracts.DataAccess`)."""

    @property
    def workspace_id(self) -> int: ...

    def told(self) -> str:
        """Roles and attributes as JSON, for the policies of row rules."""
        ...


class Database:
    """Connections to one database. Cheap to make; engines are opened when first asked for.

    `url` is the owner's libpq address (`postgresql://…`); the other roles' passwords are derived from `key`.
    `app_timeout_ms`: the longest statement of the role APP; None: no end (jobs).
    """

    def __init__(
        self, url: str, key: SecretKey, *, pool_size: int = 5, app_timeout_ms: int | None = None
    ) -> None:
        self._owner = conninfo_to_dict(url)
        self._key = key
        self._pool_size = pool_size
        self._app_timeout_ms = app_timeout_ms
        self._engines: dict[tuple[Role, bool], sa.Engine] = {}
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Database({self._owner.get('host')}, {self._owner.get('dbname')})"

    def parameters(self, role: Role) -> dict[str, Any]:
        """libpq connection parameters for a role (host, port, user, password, dbname, options, …)."""
        found = dict(self._owner)
        if role is not Role.OWNER:
            found["user"] = role.login
            found["password"] = self._key.password(role.value)
        options = f"-c timezone=UTC {_SERVER_KEEPALIVES} " + _SESSION_OPTIONS.get(role, "")
        if role is Role.APP and self._app_timeout_ms is not None:
            options += f" -c statement_timeout={self._app_timeout_ms}"
        found["options"] = options.strip()
        for name, value in _KEEPALIVES.items():
            found.setdefault(name, value)
        if role in _WRITING and "," in str(found.get("host", "")):
            found.setdefault("target_session_attrs", "read-write")  # not the standby, though it answers first
        found.setdefault("application_name", f"sluiceway-{role.value}")
        found.setdefault("connect_timeout", "10")
        return found

    def conninfo(self, role: Role) -> str:
        """A libpq connection string. It holds the role's password: never log it."""
        return make_conninfo("", **self.parameters(role))

    def connect(self, role: Role, *, autocommit: bool = False) -> "psycopg.Connection[Any]":
        """A psycopg connection of the caller's own (COPY, LISTEN); the caller closes it."""
        return psycopg.connect(self.conninfo(role), autocommit=autocommit)

    def engine(self, role: Role) -> sa.Engine:
        """The role's pooled SQLAlchemy engine."""
        return self._engine(role)

    @contextmanager
    def single(self, role: Role) -> Iterator[sa.Connection]:
        """For one statement that acts for nobody: a transaction of its own, in one round trip."""
        # A pool of its own: making a connection one that commits by itself, and back, costs more than this.
        with self._engine(role, single=True).connect() as connection:
            yield connection

    def _engine(self, role: Role, *, single: bool = False) -> sa.Engine:
        with self._lock:
            if (role, single) not in self._engines:
                engine = sa.create_engine(
                    "postgresql+psycopg://",
                    creator=lambda: psycopg.connect(self.conninfo(role)),
                    # None beyond the pool: under load those were opened and closed again with every request.
                    pool_size=self._pool_size if single else 2 * self._pool_size,
                    max_overflow=0,
                    pool_use_lifo=True,  # the one used last has its statements prepared
                    hide_parameters=True,  # an error tells the statement, never what was in it
                    **({"isolation_level": "AUTOCOMMIT"} if single else {}),
                )
                sa.event.listen(engine, "checkin", _note_rest)
                sa.event.listen(engine, "checkout", _check_alive)
                self._engines[role, single] = engine
            return self._engines[role, single]

    @contextmanager
    def transaction(
        self,
        role: Role,
        *,
        workspace_id: int | None = None,
        user_id: str | None = None,
        access: Eyes | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[sa.Connection]:
        """One transaction as `role` on behalf of `workspace_id`; committed at the end, rolled back on error.

        Without a workspace the row-level policies let no workspace's row through. Who reads data for somebody
        gives `access` (whose workspace it then is): without it no row is let through where a row rule stands.
        `settings`: of the server, until the end of the transaction.
        """
        if access is not None:
            workspace_id = access.workspace_id
        wanted = {**_identity(workspace_id, user_id, access), **(settings or {})}
        with self.engine(role).begin() as connection:
            if not _begin(connection, wanted):
                _set(connection, wanted)
            yield connection

    def derived_key(self, purpose: str) -> bytes:
        """32 bytes of this installation's own for one purpose."""
        return self._key.derive(purpose)

    @cached_property
    def envelope(self) -> Envelope:
        """What seals the secrets that are kept in this database, and opens them."""
        return Envelope.over(self.keyring)

    @cached_property
    def keyring(self) -> Keyring:
        """The versions of the key that seals. Asked on a connection of its own: whoever seals holds one."""
        return Keyring(self._key, self._known_keys)

    def _known_keys(self) -> list[StoredKey]:
        with self.connect(Role.APP, autocommit=True) as connection:
            rows = connection.execute("SELECT version, wrapped, state FROM app.known_keys()").fetchall()
        return [StoredKey(version, bytes(wrapped), state == "current") for version, wrapped, state in rows]

    @cached_property
    def server(self) -> "Server":
        """What the server is: asked once."""
        with self.connect(Role.OWNER, autocommit=True) as connection:
            version = connection.info.server_version
            row = connection.execute(
                "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
            ).fetchone()
        return Server(version=version, timescaledb=row[0] if row else None)

    def dispose(self) -> None:
        with self._lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()


RESTED_S = 1.0
"""A connection that was not used for so long is asked for a sign of life before it is given out."""


def _note_rest(_connection: "psycopg.Connection[Any]", record: Any) -> None:
    record.info["resting_since"] = time.monotonic()


def _check_alive(connection: "psycopg.Connection[Any]", record: Any, _fairy: Any) -> None:
    """Have the pool connect anew where the server has gone since the connection was last used.

    A server that goes says so: there is something to read. So a connection in steady use costs no round trip.
    """
    since = record.info.pop("resting_since", None)
    if since is None:  # just made
        return
    if not connection.closed and time.monotonic() - since < RESTED_S and not _has_word(connection):
        return
    try:
        alive = connection.pgconn.exec_(b"").status == psycopg.pq.ExecStatus.EMPTY_QUERY
    except psycopg.Error:
        alive = False
    if not alive:
        raise sa.exc.InvalidatePoolError("The server has closed the connection.")


def _has_word(connection: "psycopg.Connection[Any]") -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class Server:
    """The server's kind: `version` as libpq counts it (180006), `timescaledb` its version or None."""

    def __init__(self, *, version: int, timescaledb: str | None) -> None:
        self.version = version
        self.timescaledb = timescaledb


def set_identity(
    connection: sa.Connection,
    *,
    workspace_id: int | None,
    user_id: str | None = None,
    access: Eyes | None = None,
) -> None:
    """Tell the row-level policies, until the end of this transaction, for whom it acts."""
    _set(connection, _identity(workspace_id, user_id, access))


def _identity(workspace_id: int | None, user_id: str | None, access: Eyes | None) -> dict[str, str]:
    return {
        "sluiceway.workspace_id": "" if workspace_id is None else str(workspace_id),
        "sluiceway.user_id": user_id or "",
        "sluiceway.access": "" if access is None else access.told(),
    }


def _begin(connection: sa.Connection, settings: Mapping[str, str]) -> bool:
    """Begin the transaction with these settings, in one round trip instead of two; False: it did not begin.

    Every request and query begins one. The driver sees from the connection that a transaction is open.
    """
    pgconn = cast("psycopg.Connection[Any]", connection.connection.driver_connection).pgconn
    literal = psycopg.pq.Escaping(pgconn).escape_literal
    calls = [
        b"set_config(%b, %b, true)" % (literal(name.encode()), literal(value.encode()))
        for name, value in settings.items()
    ]
    try:
        result = pgconn.exec_(b"BEGIN; SELECT " + b", ".join(calls))
    except psycopg.Error:  # the way that tells it properly will fail, too
        return False
    return result.status == psycopg.pq.ExecStatus.TUPLES_OK


def _set(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    names = {f"n{i}": name for i, name in enumerate(settings)}
    values = {f"v{i}": value for i, value in enumerate(settings.values())}
    calls = ", ".join(f"set_config(:n{i}, :v{i}, true)" for i in range(len(settings)))
    connection.execute(sa.text(f"SELECT {calls}"), {**names, **values})
