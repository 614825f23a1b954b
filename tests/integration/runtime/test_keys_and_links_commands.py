"""`sluiceway key rotate`, `service-account`, `link`: a secret is printed once and alone, and works."""

import pytest

from api.key_uses import KeyUses
from sluiceway.dashboards import links, service
from sluiceway.dashboards.errors import LinkNotFound
from sluiceway.identity.contracts import KeyCaller
from sluiceway.identity.errors import InvalidKey
from sluiceway.identity.keys import authenticate, get_key, parse_key
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.command_line import Run

BOARD = "kind: Dashboard\nname: board\nwidgets: [{id: words, type: text, text: hello}]\n"


def known(database: Database, text: str) -> KeyCaller:
    with database.transaction(Role.APP) as conn:
        return authenticate(conn, text, now=SystemClock().now())


def printed(run: Run, *arguments: str, stdin: str = "") -> str:
    """The one thing that the command printed."""
    code, out, err = run(*arguments, stdin=stdin)
    assert (code, err) == (0, ""), (out, err)
    assert len(out.split()) == 1
    return out.strip()


def test_a_key_is_rotated_and_its_overlap_ended(run: Run, database: Database) -> None:
    old = printed(run, "key", "create", "--scope", "read")
    key_id = parse_key(old)[0]
    new = printed(run, "key", "rotate", key_id, "--hours", "1")
    assert known(database, old).by_previous and not known(database, new).by_previous
    code, _, err = run("key", "rotate", key_id)
    assert code == 1 and "--lost" not in err and "was lost" in err
    assert printed(run, "key", "rotate", key_id, "--lost") != new
    assert "old secret until" in run("key", "list")[1]
    assert run("key", "end-rotation", key_id)[0] == 0
    with pytest.raises(InvalidKey):
        known(database, old)


def test_where_events_come_from_is_noted(run: Run, database: Database) -> None:
    key_id = parse_key(printed(run, "key", "create", "--scope", "ingest"))[0]
    uses = KeyUses(database)
    uses.note(1, key_id, "192.0.2.7")
    uses.flush()
    with database.transaction(Role.APP, workspace_id=1) as conn:
        assert get_key(conn, 1, key_id).last_used_address == "192.0.2.7"


def test_a_service_account_with_its_key(run: Run, database: Database) -> None:
    code, out, _ = run("service-account", "create", "robot", "--role", "editor", "--attribute", "region=emea")
    assert (code, out) == (0, "robot is a service account with editor.\n")
    text = printed(run, "service-account", "key", "robot", "--days", "30")
    found = known(database, text)
    assert found.account is not None and found.account.attributes == (("region", ("emea",)),)
    assert "of robot" in run("key", "list")[1]
    assert run("service-account", "disable", "ROBOT")[0] == 0
    assert "disabled" in run("service-account", "list")[1]
    with pytest.raises(InvalidKey):
        known(database, text)
    assert run("service-account", "enable", "robot")[0] == 0 and known(database, text)
    assert run("service-account", "delete", "robot")[0] == 0
    with pytest.raises(InvalidKey):
        known(database, text)
    assert run("service-account", "key", "robot")[0] == 1
    assert run("service-account", "create", "b", "--role", "nobody")[0] == 2
    assert run("service-account", "create", "b", "--role", "viewer", "--attribute", "x")[0] == 2


def test_a_link_is_made_listed_and_revoked(run: Run, database: Database) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        service.apply_dashboard(conn, 1, BOARD)
    address = printed(
        run, "link", "create", "board", "--last", "7d", "--days", "2", "--password-stdin", stdin="open sesame"
    )
    token = address.rpartition("/link/")[2]
    listed = run("link", "list", "board")[1]
    assert "never opened" in listed and "with a password" in listed and token not in listed
    with database.transaction(Role.APP) as conn:
        found = links.find_link(conn, token, now=SystemClock().now())
        assert links.fits(conn, found, "open sesame")
    assert run("link", "revoke", listed.split()[0])[0] == 0
    with database.transaction(Role.APP) as conn, pytest.raises(LinkNotFound):
        links.find_link(conn, token, now=SystemClock().now())
    assert run("link", "create", "nothing")[0] == 1
    assert run("link", "create", "board", "--filter", "x")[0] == 2
    assert run("link", "create", "board", "--filter", "a=1")[0] == 0


def test_a_filter_has_to_fit(run: Run, database: Database) -> None:
    apply_pipeline(database, 1, "name: sales\nfields: [{name: shop, type: string, role: dimension}]\n")
    query = "{pipeline: sales, measures: [{agg: count}]}"
    with database.transaction(Role.APP, workspace_id=1) as conn:
        service.apply_dashboard(
            conn, 1, f"kind: Dashboard\nname: board\nwidgets: [{{id: n, type: stat, query: {query}}}]\n"
        )
    assert run("link", "create", "board", "--filter", "shop=a")[0] == 0
    code, _, err = run("link", "create", "board", "--filter", "colour=a")
    assert code == 2 and "filters.0" in err and "'n'" in err
