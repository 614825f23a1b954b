"""What every connection to the database asks for."""

from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey


def database_at(hosts: str, secret_key: SecretKey, more: str = "") -> Database:
    return Database(f"postgresql://o:p@{hosts}/d{more}", secret_key)


def test_of_several_hosts_whoever_writes_takes_the_one_that_can(secret_key: SecretKey) -> None:
    several = database_at("one:5432,two:5432", secret_key)
    for role in (Role.OWNER, Role.WRITER, Role.APP):
        assert several.parameters(role)["target_session_attrs"] == "read-write"
    # Its sessions are read-only by themselves: none would do.
    assert "target_session_attrs" not in several.parameters(Role.READER)
    assert "target_session_attrs" not in database_at("one", secret_key).parameters(Role.WRITER)
    told = database_at("one,two", secret_key, "?target_session_attrs=any&keepalives_idle=60")
    assert told.parameters(Role.WRITER)["target_session_attrs"] == "any"
    assert told.parameters(Role.WRITER)["keepalives_idle"] == "60"


def test_a_peer_that_is_gone_is_noticed_at_both_ends(secret_key: SecretKey) -> None:
    for role in Role:
        found = database_at("one", secret_key).parameters(role)
        assert found["keepalives_idle"] == "10"
        assert found["tcp_user_timeout"] == "30000"
        assert "-c tcp_keepalives_idle=10" in found["options"]
        cut = "idle_in_transaction_session_timeout=300000" in found["options"]
        assert cut is (role is Role.WRITER)
