"""Keys, passwords and callers without a database."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from sluiceway.identity import passwords
from sluiceway.identity.contracts import Caller, KeyCaller
from sluiceway.identity.errors import ExpiredKey, InvalidKey, MissingScope, NotPermitted
from sluiceway.identity.keys import StoredKey, check_key, parse_key
from sluiceway.identity.permissions import MemberRole, Permission, Scope
from sluiceway.kit.ids import uuid7

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SECRET = "s" * 43


def _stored(**changes: object) -> StoredKey:
    values: dict[str, object] = {
        "id": "abcdefghijkm", "workspace_id": 1, "name": "n", "scopes": frozenset({Scope.INGEST}),
        "pipeline_ids": None, "expires_at": None, "revoked_at": None,
        "secret_hash": hashlib.sha256(SECRET.encode()).digest(),
    }  # fmt: skip
    return StoredKey(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "slw", "slw_a_b", f"slw_abcdefghijkm_{SECRET}x", f"SLW_abcdefghijkm_{SECRET}",
     f"slw_abcdefghijkm_{SECRET}\n"],
)  # fmt: skip
def test_other_texts_are_no_keys(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(text)


def test_a_secret_may_hold_underscores() -> None:
    assert parse_key("slw_abcdefghijkm_" + "_" * 43) == ("abcdefghijkm", "_" * 43)


def test_a_good_key_gives_its_caller() -> None:
    caller = check_key(_stored(pipeline_ids=frozenset({7})), SECRET, now=NOW)
    assert caller.may_send_to(7) and not caller.may_send_to(8)
    assert SECRET not in repr(_stored()) and "secret_hash" not in repr(_stored())


@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (None, InvalidKey),
        (_stored(secret_hash=b"x" * 32), InvalidKey),
        (_stored(revoked_at=NOW), InvalidKey),
        (_stored(expires_at=NOW), ExpiredKey),
    ],
)
def test_a_bad_key_is_refused(stored: StoredKey | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_key(stored, SECRET, now=NOW)


def test_a_revoked_key_does_not_tell_that_it_expired() -> None:
    with pytest.raises(InvalidKey):
        check_key(_stored(revoked_at=NOW, expires_at=NOW - timedelta(days=1)), SECRET, now=NOW)


def test_a_read_key_is_not_for_sending() -> None:
    caller = KeyCaller("id", 1, "n", frozenset({Scope.READ}), None, None)
    assert not caller.may_send_to(1)
    with pytest.raises(MissingScope, match="read"):
        Caller.from_key(caller).check(Permission.EVENT_WRITE)


def test_a_person_is_told_their_role() -> None:
    person = Caller.from_member(
        user_id=uuid7(), workspace_id=1, role=MemberRole.VIEWER, email="a@b", name="A", expires_at=None
    )
    person.check(Permission.DATA_READ)
    with pytest.raises(NotPermitted, match="viewer"):
        person.check(Permission.KEY_MANAGE)


def test_passwords_are_argon2id_and_salted(real_passwords: None) -> None:
    first, second = passwords.hash_password("p" * 12), passwords.hash_password("p" * 12)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and first != second
    assert passwords.verify(first, "p" * 12) and not passwords.verify(first, "q" * 12)
    assert not passwords.verify(None, "the password of nobody")
    assert not passwords.verify("not a hash", "p") and not passwords.needs_rehash(first)
