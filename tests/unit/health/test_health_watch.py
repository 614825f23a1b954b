"""The watch before its first sample, and what everybody may read of addresses."""

import threading
from pathlib import Path

import psycopg
import pytest

from sluiceway.health import service
from sluiceway.health.service import HealthWatch
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.reporting import Report
from sluiceway.infra.settings import WrongSetting, load_settings
from sluiceway.infra.trouble import describe, without_credentials
from sluiceway.kit.errors import Unavailable


def test_before_the_first_sample_it_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring hangs, as it does with a database that neither answers nor refuses."""
    going = threading.Event()

    def own() -> Report:
        going.wait(60)
        raise RuntimeError("no report")

    monkeypatch.setattr(service, "_FIRST_S", 0.01)
    settings = load_settings({"SLUICEWAY_HOME": str(tmp_path)})
    database = Database("postgresql://nobody@127.0.0.1:1/none", SecretKey(b"x" * 40))
    watch = HealthWatch(settings, database, own)
    watch.start()
    try:
        with pytest.raises(Unavailable) as caught:
            watch.assess()
        assert (caught.value.status, caught.value.retry_after_s) == (503, 2)
    finally:
        watch.stop()
        going.set()
        database.dispose()


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("s3://key:hush@bucket/prefix", "s3://***@bucket/prefix"),
        ("postgresql://me:hu@sh@host:5432/db?x=1 is no", "postgresql://***@host:5432/db?x=1 is no"),
        ("no host in host=h password='hush it' port=5", "no host in host=h password=*** port=5"),
        ('at "127.0.0.1", port 5432 failed: a@b', 'at "127.0.0.1", port 5432 failed: a@b'),
        ("s3://bucket/some@prefix", "s3://bucket/some@prefix"),
        ("file:///folder", "file:///folder"),
    ],
)
def test_credentials_are_masked(told: str, shown: str) -> None:
    assert without_credentials(told) == shown
    assert describe(psycopg.OperationalError(told)) == shown


def test_the_lakes_address_is_not_repeated() -> None:
    with pytest.raises(WrongSetting) as raised:
        load_settings({"SLUICEWAY_LAKE_URL": "ftp://key:hush@bucket"})
    assert "hush" not in raised.value.detail
    settings = load_settings({"SLUICEWAY_LAKE_URL": "s3://key:hush@bucket"})
    assert settings.lake_url.endswith("hush@bucket") and "hush" not in repr(settings)
