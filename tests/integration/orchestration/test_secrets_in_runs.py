"""Runs that fail: neither what Dagster keeps of them nor what they print holds a secret they work with."""

import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.build import build_definitions
from orchestration.resources import Platform
from sluiceway.infra import redaction
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.lake.service import Lake
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.planted import TEST_KEY
from tests.support.platform import free_port

pytestmark = pytest.mark.slow

PIPELINE = "name: orders\nevent: {id: id}\nfields:\n  - {name: amount, type: number, role: measure}\n"
SECRETS = {
    "the database's password": "zq7-planted-database-word",
    "the lake's secret": "zq7-planted-lake-word",
    "the mail server's password": "zq7-planted-mail-word",
    "the installation's key": TEST_KEY,
}
BRONZE, SILVER = dg.AssetKey(["bronze", "orders"]), dg.AssetKey(["silver", "orders"])


@pytest.fixture
def platform(database: Database, database_url: str, tmp_path: Path) -> Iterator[Platform]:
    """With a catalog, and settings whose secrets are planted; the nets know them, as in the code location."""
    words = list(SECRETS.values())
    settings = load_settings(
        {
            "SLUICEWAY_HOME": str(tmp_path / "home"),
            "SLUICEWAY_DATABASE_URL": f"postgresql://owner:{words[0]}@127.0.0.1:{free_port()}/sluiceway",
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_LAKE_URL": "s3://bronze/lake",
            "SLUICEWAY_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
            "SLUICEWAY_S3_ACCESS_KEY_ID": "planted",
            "SLUICEWAY_S3_SECRET_ACCESS_KEY": words[1],
            "SLUICEWAY_SMTP_URL": f"smtp://mail:{words[2]}@127.0.0.1:1",
        }
    )
    apply_pipeline(database, 1, PIPELINE)
    redaction.install(settings)
    try:
        yield Platform(settings, database)
    finally:
        redaction.unhook()


def nobody_there(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database of the settings: nothing answers there."""
    settings: Settings = platform.settings
    assert settings.database_url is not None
    away = Database(settings.database_url, SecretKey(TEST_KEY.encode()))
    monkeypatch.setitem(platform.__dict__, "database", away)


def no_lake(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object storage of the settings: nothing answers there."""


def talkative(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose error says all it was given, with another that says it again as its cause."""

    def explode(*_: object, **__: object) -> None:
        try:
            raise ConnectionError(f"cannot reach {platform.settings.database_url}")
        except ConnectionError as cause:
            raise RuntimeError(f"all of {list(SECRETS.values())} were refused") from cause

    monkeypatch.setattr(Lake, "compact_day", explode)


def talkative_log(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, to Dagster's own log and to the process's outputs."""

    def say(*_: object, **__: object) -> None:
        text = f"all of {list(SECRETS.values())} at {platform.settings.database_url}"
        dg.get_dagster_logger().warning(text)
        logging.getLogger("some.library").error("it is %s", text)
        raise RuntimeError(text)

    monkeypatch.setattr(Lake, "compact_day", say)


@pytest.mark.parametrize(
    ("break_it", "asset"),
    [(nobody_there, SILVER), (no_lake, BRONZE), (talkative, BRONZE), (talkative_log, BRONZE)],
)
def test_a_run_that_fails_tells_no_secret(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    break_it: Callable[[Platform, pytest.MonkeyPatch], None],
    asset: dg.AssetKey,
) -> None:
    definitions = build_definitions(platform)
    break_it(platform, monkeypatch)
    # A failing step waits for its next try: here it has that at once.
    monkeypatch.setattr("dagster._core.execution.plan.active.time.sleep", lambda _: None)
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[asset],
            partition_key=f"{datetime.now(UTC):%Y-%m-%d}",
            instance=instance,
            raise_on_error=False,
        )
        assert not result.success
        kept = [_text(entry) for entry in instance.all_logs(result.run_id)]
    printed = "".join(capfd.readouterr())
    told = "\n".join([*kept, printed])
    assert "STEP_FAILURE" in told and "orders" in told, "the control: it says that it failed"
    found = {name for name, word in SECRETS.items() if word in told}
    assert not found, f"{sorted(found)} in {_around(told, found)}"


def _text(entry: Any) -> str:
    """An entry of the event log as Dagster stores it, and as it prints it."""
    return f"{dg.serialize_value(entry)}\n{entry.user_message}\n{entry.message}"


def _around(told: str, found: set[str]) -> str:
    word = SECRETS[sorted(found)[0]]
    at = told.index(word)
    return json.dumps(told[max(0, at - 300) : at + 100])
