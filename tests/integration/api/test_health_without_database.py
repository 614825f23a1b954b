"""The database away: whoever saw the page Health lately still sees it, and what it says; nobody else does."""

from pathlib import Path
from typing import Any

import anyio.from_thread
import psycopg

from api.app import create_app
from api.services import ApiServices
from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings
from sluiceway.infra.trouble import describe
from tests.integration.api.conftest import Client


class Breakable(Database):
    """A database to which the way can be cut."""

    cut = False

    def conninfo(self, role: Role) -> str:
        found = super().conninfo(role)
        return psycopg.conninfo.make_conninfo(found, host="127.0.0.1", port="1") if self.cut else found


def test_who_saw_it_lately_sees_what_is_wrong(
    settings: Settings, database_url: str, secret_key: SecretKey
) -> None:
    database = Breakable(database_url, secret_key)
    services = ApiServices(settings=settings, database=database, key=secret_key)
    app: Any = create_app(services, {"api"})
    settings.home.mkdir(parents=True, exist_ok=True)
    with database.transaction(Role.APP, workspace_id=1) as connection:
        known, unknown = (create_key(connection, 1, name, ["read"]) for name in ("one", "other"))
    try:
        with anyio.from_thread.start_blocking_portal() as portal:
            first, other = (
                Client(app, portal, {"Authorization": f"Bearer {key}"}, checked=False)
                for key in (known, unknown)
            )
            assert first.get("/v1/health/stages").json()["state"] in ("ok", "warning")
            database.cut = True
            database.dispose()
            found = first.get("/v1/health/stages").json()
            stages = {stage["key"]: stage for stage in found["stages"]}
            assert stages["database"]["state"] == "critical" and stages["gold"]["state"] == "unknown"
            words = stages["database"]["findings"][0]["words"]
            assert words.startswith("The database does not answer: ") and "127.0.0.1" in words
            assert "password" not in words and found["state"] == "critical"
            assert other.get("/v1/health/stages").status_code == 503
            anybody = Client(app, portal, checked=False)
            assert "sluiceway_database_up 0.0" in anybody.get("/metrics").text
            database.cut = False
            database.dispose()
            again = {s["key"]: s["state"] for s in first.get("/v1/health/stages").json()["stages"]}
            assert again["database"] == "ok"
    finally:
        database.dispose()


def test_a_message_that_may_quote_a_row_is_not_passed_on(database: Database, tmp_path: Path) -> None:
    try:
        with database.connect(Role.APP) as connection:
            connection.execute("SELECT 'a customer''s name'::integer")
    except psycopg.Error as error:
        assert "customer" in str(error)
        assert describe(error) == "InvalidTextRepresentation, SQLSTATE 22P02"
    try:
        (tmp_path / "none").read_text()
    except OSError as error:
        assert describe(error) == "No such file or directory"
