"""Changing the key that seals stored secrets, while everything runs; what broke off goes on where it was.

`begin` makes a new version, `reseal` brings every value under it, `finish` forgets the old ones. Every value
keeps its own data key: only 48 bytes of each are sealed again, and no value is opened. Belongs here: the
registry of all sealed columns. Not here: versions (`infra.keyring`), values (`infra.envelope`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from psycopg import sql

from sluiceway.infra.database import SERVICE_ROLES, Database, Role
from sluiceway.infra.envelope import CannotOpen, Envelope
from sluiceway.infra.keyring import FRESH_S, Keyring, StoredKey, new_material, unwrap, wrap
from sluiceway.infra.keys import SecretKey

BATCH = 200
GRACE = timedelta(seconds=2 * FRESH_S)
"""How long the old version is kept at least: by then every process seals under the new one."""
_LOCK = 0x51_01_CE_4B


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """Where sealed values are kept. All texts are SQL over a row of `table`.

    `key`: what tells rows apart; `context`: what the values are bound to, as their slice binds them; `value`:
    the sealed bytes, where they are no column of their own; `store`: the column's new value from `:sealed`.
    """

    table: str
    column: str
    key: tuple[str, ...]
    context: str
    value: str = ""
    store: str = ":sealed"

    @property
    def read(self) -> str:
        return self.value or f'"{self.column}"'


SEALED: tuple[SealedColumn, ...] = (
    SealedColumn(
        "app.pipeline_secrets",
        "sealed",
        ("id",),
        "'pipeline-secret:' || workspace_id || ':' || pipeline_id || ':' || id",
    ),
    SealedColumn("app.totp", "sealed", ("user_id",), "'totp:' || user_id"),
    SealedColumn("app.sign_in_steps", "sealed", ("token_hash",), "'totp:' || user_id"),
    SealedColumn("app.identity_providers", "sealed", ("id",), "'identity-provider:' || id"),
    SealedColumn("app.provider_sessions", "sealed", ("session_id",), "'provider-session:' || session_id"),
    SealedColumn("app.mails", "sealed", ("id",), "'mail/' || workspace_id || '/' || id"),
    SealedColumn(
        "app.idempotency_keys",
        "answer",
        ("workspace_id", "subject", "key"),
        "workspace_id || '/' || subject || '/' || key",
    ),
)
"""Every place with sealed values. A test finds what is missing; `app.fence_sealed` belongs to each."""


@dataclass(frozen=True, slots=True)
class KeyVersion:
    version: int
    state: str
    created_at: datetime
    retired_at: datetime | None
    values: int
    """How many values are sealed under it."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A sealed value that does not open with any key of this installation. It is left as it is."""

    table: str
    column: str
    key: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Resealed:
    values: int
    unreadable: tuple[Unreadable, ...]


Progress = Callable[[SealedColumn, int], None]
"""Told after each batch: where, and how many values of it were sealed again."""


def status(database: Database) -> list[KeyVersion]:
    """Every version that is kept, and how many values each has, the oldest first. Role OWNER."""
    counts: dict[int, int] = {}
    with database.transaction(Role.OWNER) as connection:
        for place in SEALED:
            for row in connection.execute(
                sa.text(
                    f"SELECT {_version(place)} AS version, count(*) AS n FROM {place.table}"  # noqa: S608  # our own
                    f" WHERE {place.read} IS NOT NULL GROUP BY 1"
                )
            ):
                counts[row.version] = counts.get(row.version, 0) + row.n
        rows = connection.execute(
            sa.text("SELECT version, state, created_at, retired_at FROM app.encryption_keys ORDER BY version")
        ).all()
    return [
        KeyVersion(row.version, row.state, row.created_at, row.retired_at, counts.get(row.version, 0))
        for row in rows
    ]


def begin(database: Database, key: SecretKey) -> int:
    """The version to bring everything under: a new one, or that of a rotation that has not ended yet.

    Raises `CannotOpen` if `key` is not the one that the versions there are wrapped by: nothing is done then.
    """
    if any(unwrap(key, stored) is None for stored in _stored(database)):
        raise CannotOpen("The stored keys belong to another SLUICEWAY_SECRET_KEY: rotate with that one.")
    with database.transaction(Role.OWNER) as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        under_way: int = connection.execute(
            sa.text("SELECT count(*) FROM app.encryption_keys WHERE state = 'retiring'")
        ).scalar_one()
        if not under_way:
            connection.execute(
                sa.text(
                    "UPDATE app.encryption_keys SET state = 'retiring', retired_at = now()"
                    " WHERE state = 'current'"
                )
            )
            connection.execute(
                sa.text("INSERT INTO app.encryption_keys (wrapped, state) VALUES (:wrapped, 'current')"),
                {"wrapped": wrap(key, new_material())},
            )
        version: int = connection.execute(
            sa.text("SELECT version FROM app.encryption_keys WHERE state = 'current'")
        ).scalar_one()
    return version


def reseal(database: Database, key: SecretKey, progress: Progress | None = None) -> Resealed:
    """Bring every value under the current version, some rows a transaction; may be stopped and done again."""
    ring = Keyring(key, lambda: _stored(database))
    envelope, current = Envelope.over(ring), ring.current()
    total = 0
    unreadable: list[Unreadable] = []
    for place in SEALED:
        for batch, bad in _batches(database, place, envelope, current):
            total += batch
            unreadable += bad
            if progress is not None and batch:
                progress(place, batch)
    return Resealed(total, tuple(unreadable))


def finish(database: Database, now: datetime | None = None) -> bool:
    """Forget the versions that seal nothing any more and were retired `GRACE` ago; whether none is left.

    Transactions that have just sealed under one of them are waited for, and later ones are refused by the
    database: nothing can be left behind sealed under a version that is gone.
    """
    before = (now or datetime.now(UTC)) - GRACE
    with database.transaction(Role.OWNER) as connection:
        candidates: Sequence[int] = (
            connection.execute(
                sa.text(
                    "SELECT version FROM app.encryption_keys WHERE state = 'retiring'"
                    " AND retired_at <= :before ORDER BY version FOR UPDATE"
                ),
                {"before": before},
            )
            .scalars()
            .all()
        )
        for version in candidates:
            # A statement of its own: it sees what was committed while the lock was waited for.
            if not any(_holds(connection, place, version) for place in SEALED):
                connection.execute(
                    sa.text("DELETE FROM app.encryption_keys WHERE version = :version"), {"version": version}
                )
        left: int = connection.execute(
            sa.text("SELECT count(*) FROM app.encryption_keys WHERE state = 'retiring'")
        ).scalar_one()
    return not left


def change_installation_key(connection: sa.Connection, old: SecretKey, new: SecretKey) -> int:
    """Wrap every version by `new`, and give the roles the passwords derived from it; how many versions.

    All of it is the caller's transaction (role OWNER). Versions that `new` opens already are left as they
    are, so it may be done again. Raises `CannotOpen` if neither key opens one.
    """
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    rows = connection.execute(
        sa.text("SELECT version, wrapped, state FROM app.encryption_keys ORDER BY version FOR UPDATE")
    ).all()
    for row in rows:
        stored = StoredKey(row.version, bytes(row.wrapped), row.state == "current")
        if unwrap(new, stored) is not None:
            continue
        material = unwrap(old, stored)
        if material is None:
            raise CannotOpen(f"Version {row.version} is wrapped by neither of the two keys.")
        connection.execute(
            sa.text("UPDATE app.encryption_keys SET wrapped = :wrapped WHERE version = :version"),
            {"wrapped": wrap(new, material), "version": row.version},
        )
    driver = connection.connection.driver_connection
    assert driver is not None
    for role in SERVICE_ROLES:
        driver.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(role.login), sql.Literal(new.password(role.value))
            )
        )
    return len(rows)


def _batches(
    database: Database, place: SealedColumn, envelope: Envelope, current: int
) -> Iterator[tuple[int, list[Unreadable]]]:
    """How many values each step sealed again, and what could not be; in order of the rows' keys."""
    names = ", ".join(f'"{name}"' for name in place.key)
    after: dict[str, Any] | None = None
    while True:
        beyond = "" if after is None else f"AND ({names}) > ({', '.join(f':after_{n}' for n in place.key)})"
        with database.transaction(Role.OWNER) as connection:
            rows = connection.execute(
                sa.text(
                    f"SELECT {names}, {place.read} AS old_sealed, {place.context} AS old_context"  # noqa: S608  # our own
                    f" FROM {place.table} WHERE {place.read} IS NOT NULL AND {_version(place)} <> :current"
                    f" {beyond} ORDER BY {names} LIMIT :limit FOR UPDATE"
                ),
                {
                    "current": current,
                    "limit": BATCH,
                    **({f"after_{name}": value for name, value in after.items()} if after else {}),
                },
            ).all()
            if not rows:
                return
            done, bad = _reseal_rows(connection, place, envelope, rows)
        after = {name: getattr(rows[-1], name) for name in place.key}
        yield done, bad


def _reseal_rows(
    connection: sa.Connection, place: SealedColumn, envelope: Envelope, rows: Any
) -> tuple[int, list[Unreadable]]:
    where = " AND ".join(f'"{name}" = :{name}' for name in place.key)
    update = sa.text(
        f'UPDATE {place.table} SET "{place.column}" = {place.store} WHERE {where}'  # noqa: S608  # our own
    )
    done = 0
    bad: list[Unreadable] = []
    for row in rows:
        keys = {name: getattr(row, name) for name in place.key}
        old = bytes(row.old_sealed)
        try:
            sealed = envelope.rewrap(old, row.old_context)
        except CannotOpen:
            version = int.from_bytes(old[1:3], "big")
            shown = tuple(str(value) for value in keys.values())
            bad.append(Unreadable(place.table, place.column, shown, version))
            continue
        connection.execute(update, {**keys, "sealed": sealed})
        done += 1
    return done, bad


def _holds(connection: sa.Connection, place: SealedColumn, version: int) -> bool:
    found: bool = connection.execute(
        sa.text(
            f"SELECT EXISTS (SELECT FROM {place.table}"  # noqa: S608  # our own
            f" WHERE {place.read} IS NOT NULL AND {_version(place)} = :version)"
        ),
        {"version": version},
    ).scalar_one()
    return found


def _version(place: SealedColumn) -> str:
    """The key version in a value's head; -1 for what is too short to have one."""
    read = place.read
    return f"(CASE WHEN length({read}) >= 3 THEN get_byte({read}, 1) * 256 + get_byte({read}, 2) ELSE -1 END)"


def _stored(database: Database) -> list[StoredKey]:
    with database.transaction(Role.OWNER) as connection:
        rows = connection.execute(sa.text("SELECT version, wrapped, state FROM app.known_keys()")).all()
    return [StoredKey(row.version, bytes(row.wrapped), row.state == "current") for row in rows]
