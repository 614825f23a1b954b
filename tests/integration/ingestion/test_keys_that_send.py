"""Which keys may send: rotated ones by both secrets for a while, service accounts' by their roles."""

from datetime import UTC, datetime, timedelta

import pytest

from sluiceway.identity import service_accounts
from sluiceway.identity.errors import ExpiredKey, InvalidKey, MissingScope
from sluiceway.identity.key_rotation import rotate_key
from sluiceway.identity.keys import create_key, parse_key
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.access import DatabaseLookup
from sluiceway.warehouse.schema import apply_pipeline

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
PIPELINE = """
kind: Pipeline
name: ticks
event: {id: id}
fields:
  - {name: value, type: number, role: measure}
"""


@pytest.fixture
def lookup(database: Database) -> DatabaseLookup:
    apply_pipeline(database, 1, PIPELINE)
    return DatabaseLookup(database, FixedClock(NOW))


def test_both_secrets_send_and_the_old_one_says_until_when(
    database: Database, lookup: DatabaseLookup
) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        old = create_key(conn, 1, "gate", ["ingest"])
        new, _ = rotate_key(conn, 1, parse_key(old)[0], now=NOW, overlap=timedelta(hours=1))
    assert lookup(old, "ticks").expires_at_s == (NOW + timedelta(hours=1)).timestamp()
    assert lookup(new, "ticks").expires_at_s == float("inf")
    assert lookup(old, "ticks").key_id == lookup(new, "ticks").key_id
    with pytest.raises(ExpiredKey):
        DatabaseLookup(database, FixedClock(NOW + timedelta(hours=1)))(old, "ticks")


def test_an_accounts_key_sends_as_long_as_its_roles_and_its_state_allow_it(
    database: Database, lookup: DatabaseLookup
) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        account = service_accounts.create_account(conn, 1, "robot", ["editor"], giver=None)
        text = create_key(conn, 1, "k", ["account"], account_id=account.id)
        reading = create_key(conn, 1, "k", ["read"], account_id=account.id)
    assert lookup(text, "ticks").slug == "ticks"
    with pytest.raises(MissingScope):
        lookup(reading, "ticks")
    for change, refusal in (({"roles": ["viewer"]}, MissingScope), ({"disabled": True}, InvalidKey)):
        with database.transaction(Role.APP, workspace_id=1) as conn:
            service_accounts.change_account(conn, 1, account.id, giver=None, now=NOW, **change)  # type: ignore[arg-type]  # one of the two
        with pytest.raises(refusal):
            lookup(text, "ticks")
