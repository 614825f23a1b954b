"""Stream tokens: only what this installation signed, and only for their time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.keys import SecretKey
from sluiceway.live.errors import InvalidStreamToken, StreamTokenExpired
from sluiceway.live.tokens import StreamGrant, issue, verify

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEY = SecretKey(b"one key for tests, long enough to pass")
ACCESS = DataAccess.of(7, ["viewer"], {"regions": ["EU", "US"]}, UUID(int=5))
VIEWED = replace(ACCESS, behind=DataAccess.of(7, ["editor"]))
GRANT = StreamGrant(ACCESS, ("sales", "web-shop"), "user:1", NOW + timedelta(hours=1))


def test_a_token_says_what_it_allows() -> None:
    assert verify(KEY, issue(KEY, GRANT), NOW) == GRANT
    every = StreamGrant(VIEWED, None, "key:a", NOW + timedelta(hours=1))
    assert verify(KEY, issue(KEY, every), NOW) == every


def test_a_token_ends() -> None:
    with pytest.raises(StreamTokenExpired):
        verify(KEY, issue(KEY, GRANT), NOW + timedelta(hours=1))


@pytest.mark.parametrize("damage", ["", "slt_", "slt_x.y", "slt_ä.ö", "slw_abc", "slt_e30.e30"])
def test_what_was_not_signed_here_is_refused(damage: str) -> None:
    with pytest.raises(InvalidStreamToken):
        verify(KEY, damage, NOW)


def test_no_character_of_a_token_can_be_changed() -> None:
    token = issue(KEY, GRANT)
    for index in range(len("slt_"), len(token) - 1):  # the last character carries unused bits
        other = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        with pytest.raises(InvalidStreamToken):
            verify(KEY, other, NOW)
    with pytest.raises(InvalidStreamToken):
        verify(SecretKey(b"another key for tests, also long enough"), token, NOW)
