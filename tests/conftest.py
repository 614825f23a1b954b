"""Fixtures every test may use: a migrated database of its own on one embedded server, settings, keys."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from argon2 import PasswordHasher

from sluiceway.identity import passwords
from sluiceway.infra.database import Database
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.migrations import migrate
from tests.support.cluster import MIGRATED, Cluster

pytest_plugins = [
    "tests.support.leftovers",
    "tests.support.distribution",
    "tests.support.faults.plugin",
    "tests.support.planted",
]

TEST_KEY = "a key for tests only, long enough to pass"


# As little as argon2id can do. The parameters are no setting: no installation can be told to take these.
_QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def _hash_with(monkeypatch: pytest.MonkeyPatch, hasher: PasswordHasher) -> None:
    monkeypatch.setattr(passwords, "_hasher", hasher)
    passwords._nobody.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[PasswordHasher]:
    """Many people sign in: in this process a password costs no 25 ms. Gives what the product takes."""
    real: PasswordHasher = passwords._hasher
    with pytest.MonkeyPatch.context() as monkeypatch:
        _hash_with(monkeypatch, _QUICK)
        yield real
    passwords._nobody.cache_clear()


@pytest.fixture
def real_passwords(_quick_passwords: PasswordHasher) -> Iterator[None]:
    """For a test that is about the hash itself: what the product takes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _hash_with(monkeypatch, _quick_passwords)
        yield
    passwords._nobody.cache_clear()


@pytest.fixture(scope="session")
def secret_key() -> SecretKey:
    return SecretKey(TEST_KEY.encode())


@pytest.fixture(scope="session")
def cluster(secret_key: SecretKey) -> Iterator[Cluster]:
    # Plugins: whoever imports them first must be pytest.
    from tests.support.leftovers import make_folder
    from tests.support.planted import PLANTED

    folder = make_folder()
    server = EmbeddedPostgres(
        folder / "pg", extra={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    )
    try:
        server.start()
        with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {MIGRATED}")
        template = Database(server.url_of(MIGRATED), secret_key)
        migrate(template, secret_key)
        template.dispose()
        found = Cluster(server)
        yield found
        found.close()
    finally:
        server.stop()
        PLANTED.report(
            "the server's log", server.log.read_text(errors="replace") if server.log.exists() else ""
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    url = cluster.create()
    yield url
    cluster.drop(url)


@pytest.fixture
def database(database_url: str, secret_key: SecretKey) -> Iterator[Database]:
    """A migrated database of this test's own, with the first workspace (id 1)."""
    found = Database(database_url, secret_key)
    yield found
    found.dispose()


@pytest.fixture(scope="session")
def gold_template(
    cluster: Cluster, secret_key: SecretKey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Name of a database in which dbt has built gold, and the data folder with dbt's outputs."""
    from sluiceway.runtime.gold import build_gold

    url = cluster.create()
    home = tmp_path_factory.mktemp("gold-home")
    settings = load_settings(
        {"SLUICEWAY_HOME": str(home), "SLUICEWAY_DATABASE_URL": url, "SLUICEWAY_NODE": "test"}
    )
    database = Database(url, secret_key)
    assert build_gold(settings, database).ran
    database.dispose()
    yield psycopg.conninfo.conninfo_to_dict(url)["dbname"], home
    cluster.drop(url)


@pytest.fixture
def gold_database(
    cluster: Cluster, gold_template: tuple[str, Path], secret_key: SecretKey
) -> Iterator[Database]:
    """Like `database`, with gold, staging and marts."""
    url = cluster.create(gold_template[0])
    found = Database(url, secret_key)
    yield found
    found.dispose()
    cluster.drop(url)


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return load_settings(
        {
            "SLUICEWAY_HOME": str(tmp_path / "home"),
            "SLUICEWAY_DATABASE_URL": database_url,
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_NODE": "test",
            # Tests ask as fast as they can, all from one address.
            "SLUICEWAY_USER_REQUESTS_PER_MINUTE": "1000000",
            "SLUICEWAY_KEY_REQUESTS_PER_MINUTE": "1000000",
            "SLUICEWAY_ADDRESS_REQUESTS_PER_MINUTE": "1000000",
        }
    )
