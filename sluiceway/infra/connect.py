"""From settings to a `Database`: the address that was given, or the embedded server's."""

from sluiceway.infra.database import Database
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey, load_secret_key
from sluiceway.infra.settings import Settings


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    """The embedded server under the data folder, running or not."""
    return EmbeddedPostgres(settings.home / "postgres")


def owner_url(settings: Settings) -> str:
    """The owner's libpq address. With the embedded server it holds no secret."""
    return settings.database_url or embedded_server(settings).url


def open_database(
    settings: Settings,
    key: SecretKey | None = None,
    *,
    pool_size: int = 5,
    app_timeout_ms: int | None = None,
) -> Database:
    """The database of this installation; nothing is connected before it is used."""
    found = key or load_secret_key(settings)
    return Database(owner_url(settings), found, pool_size=pool_size, app_timeout_ms=app_timeout_ms)
