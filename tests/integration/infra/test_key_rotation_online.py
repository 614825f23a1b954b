"""Changing the key that seals: online, broken off and gone on with, nothing left behind, nothing lost."""

import ast
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.infra import rotation
from sluiceway.infra.database import Database, Role
from sluiceway.infra.envelope import CannotOpen
from sluiceway.infra.keyring import FRESH_S, Keyring, StoredKey, wrap
from sluiceway.infra.keys import SecretKey

ROOT = Path(__file__).parents[3]
LATER = timedelta(hours=1)


@contextmanager
def closing_database(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.dispose()


def context(secret: uuid.UUID) -> str:
    return f"pipeline-secret:1:1:{secret}"


@pytest.fixture
def sealed(database: Database) -> Iterator[dict[uuid.UUID, bytes]]:
    """450 senders' secrets: three batches."""
    with database.transaction(Role.OWNER) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO app.pipelines (workspace_id, slug, name, version, silver_table)"
                " VALUES (1, 'orders', 'Orders', 1, 'orders')"
            )
        )
    values = {uuid.uuid4(): os.urandom(20) for _ in range(450)}
    put(database, values)
    yield values


def put(database: Database, values: dict[uuid.UUID, bytes], using: Database | None = None) -> None:
    envelope = (using or database).envelope
    with database.transaction(Role.APP, workspace_id=1) as connection:
        connection.execute(
            sa.text(
                "INSERT INTO app.pipeline_secrets (id, workspace_id, pipeline_id, name, purpose, sealed)"
                " VALUES (:id, 1, 1, 's', 'signature', :sealed)"
            ),
            [{"id": key, "sealed": envelope.seal(value, context(key))} for key, value in values.items()],
        )


def opened(database: Database) -> dict[uuid.UUID, bytes]:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        rows = connection.execute(sa.text("SELECT id, sealed FROM app.pipeline_secrets")).all()
    return {row.id: database.envelope.open(bytes(row.sealed), context(row.id)) for row in rows}


def test_every_value_is_sealed_again_while_other_processes_go_on(
    database: Database, database_url: str, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    other = Database(database_url, secret_key)
    with closing_database(other):
        assert opened(other) == sealed  # it knows version 1 only
        version = rotation.begin(database, secret_key)
        assert version == 2 and rotation.begin(database, secret_key) == 2
        done = rotation.reseal(database, secret_key)
        assert (done.values, done.unreadable) == (450, ())
        assert rotation.finish(database, datetime.now(UTC) + LATER)
        # It meets version 2 and learns of it, without having been told.
        assert opened(other) == sealed
        other.keyring.forget()
        late = {uuid.uuid4(): b"after"}
        put(other, late)
    assert opened(database) == sealed | late
    assert [(v.version, v.state, v.values) for v in rotation.status(database)] == [(2, "current", 451)]


def test_what_broke_off_goes_on(
    database: Database, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    rotation.begin(database, secret_key)

    def stop(_place: rotation.SealedColumn, _values: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotation.reseal(database, secret_key, stop)
    assert {v.version: v.values for v in rotation.status(database)} == {1: 250, 2: 200}
    assert opened(database) == sealed
    assert not rotation.finish(database, datetime.now(UTC) + LATER), "version 1 still seals 250 values"
    assert rotation.begin(database, secret_key) == 2, "no third version while the second is on its way"
    assert rotation.reseal(database, secret_key).values == 250
    assert rotation.finish(database, datetime.now(UTC) + LATER)
    assert opened(database) == sealed


def test_an_old_version_is_kept_until_every_process_seals_under_the_new_one(
    database: Database, database_url: str, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    slow = Database(database_url, secret_key)
    with closing_database(slow):
        assert slow.envelope.key_version(slow.envelope.seal(b"x", "x")) == 1
        rotation.begin(database, secret_key)
        rotation.reseal(database, secret_key)
        late = {uuid.uuid4(): b"sealed under the old one"}
        put(database, late, using=slow)  # within FRESH_S it still seals under version 1
        assert not rotation.finish(database), "retired a moment ago"
        assert not rotation.finish(database, datetime.now(UTC) + LATER), "one value came late"
        assert rotation.reseal(database, secret_key).values == 1
        assert rotation.finish(database, datetime.now(UTC) + LATER)
    assert opened(database) == sealed | late
    assert timedelta(seconds=FRESH_S) < rotation.GRACE


def test_the_database_refuses_a_value_under_a_version_that_is_gone(
    database: Database, database_url: str, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    asleep = Database(database_url, secret_key)
    with closing_database(asleep):
        asleep.envelope.seal(b"x", "x")
        rotation.begin(database, secret_key)
        rotation.reseal(database, secret_key)
        assert rotation.finish(database, datetime.now(UTC) + LATER)
        with pytest.raises(sa.exc.DBAPIError, match="key version that is gone"):
            put(database, {uuid.uuid4(): b"too late"}, using=asleep)
    assert opened(database) == sealed


def test_the_end_of_a_rotation_waits_for_who_has_just_sealed(
    database: Database, database_url: str, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    """An open transaction holds a value under version 1: forgetting it waits, and then sees the value."""
    late = uuid.uuid4()
    value = database.envelope.seal(b"late", context(late))
    rotation.begin(database, secret_key)
    rotation.reseal(database, secret_key)
    with closing(database.connect(Role.APP)) as connection:
        connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
        connection.execute(
            "INSERT INTO app.pipeline_secrets (id, workspace_id, pipeline_id, name, purpose, sealed)"
            " VALUES (%s, 1, 1, 's', 'signature', %s)",
            (late, value),
        )
        with database.connect(Role.OWNER) as impatient, pytest.raises(psycopg.errors.LockNotAvailable):
            impatient.execute("SET lock_timeout = '100ms'")
            impatient.execute("SELECT FROM app.encryption_keys WHERE version = 1 FOR UPDATE")
        connection.commit()
    assert not rotation.finish(database, datetime.now(UTC) + LATER)
    rotation.reseal(database, secret_key)
    assert rotation.finish(database, datetime.now(UTC) + LATER)
    assert opened(database) == sealed | {late: b"late"}


def test_a_damaged_value_is_named_and_holds_the_old_version(
    database: Database, secret_key: SecretKey, sealed: dict[uuid.UUID, bytes]
) -> None:
    broken = next(iter(sealed))
    with database.transaction(Role.OWNER) as connection:
        connection.execute(
            sa.text(
                "UPDATE app.pipeline_secrets SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 255)"
                " WHERE id = :id"
            ),
            {"id": broken},
        )
    rotation.begin(database, secret_key)
    done = rotation.reseal(database, secret_key)
    assert done.values == 449
    assert [(u.table, u.key, u.version) for u in done.unreadable] == [
        ("app.pipeline_secrets", (str(broken),), 1)
    ]
    assert not rotation.finish(database, datetime.now(UTC) + LATER)


def test_another_installations_key_opens_nothing(database: Database, database_url: str) -> None:
    sealed = database.envelope.seal(b"ours", "place")
    stored = [StoredKey(1, wrap(SecretKey(b"a" * 40), b"1" * 32), True)]
    stranger = Keyring(SecretKey(b"another installation's key, long enough"), lambda: stored)
    assert stranger.get(1) is None
    with pytest.raises(CannotOpen):
        stranger.current()
    assert b"ours" not in sealed and "***" in repr(stranger)


def test_unknown_versions_make_nobody_ask_the_database_over_and_over() -> None:
    asked, now = [], [0.0]
    key = SecretKey(b"a key for tests only, long enough to pass")

    def load() -> list[StoredKey]:
        asked.append(now[0])
        return [StoredKey(1, wrap(key, b"1" * 32), True)]

    ring = Keyring(key, load, monotonic=lambda: now[0])
    assert ring.current() == 1 and ring.get(1) == b"1" * 32
    for _ in range(100):
        assert ring.get(7) is None
    assert len(asked) == 2, "at once for one that is new, then not again"
    now[0] = 2.0
    assert ring.get(7) is None and len(asked) == 3
    now[0] = 2.0 + FRESH_S + 0.1
    assert ring.current() == 1 and len(asked) == 4


def test_every_sealed_column_is_registered_and_fenced(database: Database) -> None:
    """Columns of bytes are sealed, and then registered and fenced, or reviewed as something else."""
    with database.engine(Role.OWNER).connect() as connection:
        columns = {
            f"{row.name}.{row.attname}"
            for row in connection.execute(
                sa.text(
                    "SELECT n.nspname || '.' || c.relname AS name, a.attname FROM pg_attribute a"
                    " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE n.nspname IN ('app', 'silver', 'gold', 'quality') AND c.relkind IN ('r', 'p')"
                    " AND NOT c.relispartition AND a.attnum > 0 AND a.atttypid = 'bytea'::regtype"
                )
            )
        }
        fenced = {
            (row.name, row.tgname)
            for row in connection.execute(
                sa.text(
                    "SELECT n.nspname || '.' || c.relname AS name, t.tgname FROM pg_trigger t"
                    " JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE t.tgfoid = 'app.check_seal'::regproc"
                )
            )
        }
    registered = {f"{place.table}.{place.column}" for place in rotation.SEALED}
    assert registered == columns - NOT_SEALED.keys(), "sluiceway.infra.rotation.SEALED, or the list here"
    assert NOT_SEALED.keys() <= columns
    assert fenced == {(place.table, f"sealed_{place.column}") for place in rotation.SEALED}


NOT_SEALED = {
    "app.encryption_keys.wrapped": "the versions themselves, wrapped by the installation's own key",
    "app.sessions.token_hash": "SHA-256 of 256 random bits",
    "app.api_keys.secret_hash": "SHA-256 of 256 random bits",
    "app.api_keys.previous_hash": "SHA-256 of 256 random bits",
    "app.invitations.token_hash": "SHA-256 of 256 random bits",
    "app.dashboard_links.token_hash": "SHA-256 of 256 random bits",
    "app.sign_in_steps.token_hash": "SHA-256 of 256 random bits",
    "app.recovery_codes.code_hash": "SHA-256 of 80 random bits",
    "app.known_devices.device_hash": "SHA-256 of 256 random bits",
    "app.sign_in_attempts.bucket": "SHA-256 of where an attempt came from, for a day",
    "app.idempotency_keys.request_hash": "SHA-256 of a request",
    "app.passkeys.credential_id": "public",
    "app.passkeys.public_key": "public",
    "app.audit_entries.previous": "a hash",
    "app.audit_entries.hash": "a hash",
    "app.audit_heads.hash": "a hash",
    "app.audit_anchors.hash": "a hash",
    "quality.dead_letters.payload": "an event as it was received: data, not a secret of ours",
}


def test_whoever_seals_is_known_to_the_registry() -> None:
    """A call of `seal` in a module that is not on this list keeps values that a rotation may not find."""
    sealing = {
        "sluiceway/ingestion/senders/secrets.py": "app.pipeline_secrets",
        "sluiceway/identity/factors.py": "app.totp, app.sign_in_steps",
        "sluiceway/identity/providers.py": "app.identity_providers",
        "sluiceway/identity/provider_sessions.py": "app.provider_sessions",
        "sluiceway/infra/mail.py": "app.mails",
        "api/idempotency.py": "app.idempotency_keys",
    }
    found = set()
    for folder in ("sluiceway", "api", "orchestration", "expectations", "dashboards_app"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                call = node.func if isinstance(node, ast.Call) else None
                if isinstance(call, ast.Attribute) and call.attr == "seal":
                    found.add(str(path.relative_to(ROOT)))
    assert found == sealing.keys()
    named = {table for tables in sealing.values() for table in tables.split(", ")}
    assert named == {place.table for place in rotation.SEALED}


def test_every_context_in_sql_is_the_one_its_slice_binds(database: Database, secret_key: SecretKey) -> None:
    """The same words in Python and in SQL: else a rotation could not open what a slice has sealed."""
    from sluiceway.infra.mail import seal_context

    one = uuid.uuid4()
    rows = {
        "app.pipeline_secrets": ({"workspace_id": 1, "pipeline_id": 1, "id": one}, context(one)),
        "app.mails": ({"workspace_id": 1, "id": one}, seal_context(1, one)),
        "app.totp": ({"user_id": one}, f"totp:{one}"),
        "app.sign_in_steps": ({"user_id": one}, f"totp:{one}"),
        "app.identity_providers": ({"id": one}, f"identity-provider:{one}"),
        "app.provider_sessions": ({"session_id": one}, f"provider-session:{one}"),
        "app.idempotency_keys": (
            {"workspace_id": 1, "subject": "user:x", "key": "k"},
            "1/user:x/k",
        ),
    }
    with database.engine(Role.OWNER).connect() as connection:
        for place in rotation.SEALED:
            values, expected = rows[place.table]
            columns = ", ".join(
                f"CAST(:{name} AS {_type(value)}) AS {name}" for name, value in values.items()
            )
            found = connection.execute(
                sa.text(f"SELECT {place.context} FROM (SELECT {columns}) row"), values
            ).scalar_one()
            assert found == expected, place.table


def _type(value: object) -> str:
    return {int: "integer", str: "text", uuid.UUID: "uuid"}[type(value)]
