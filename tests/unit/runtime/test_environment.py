"""What child processes are given."""

import pytest

from sluiceway.infra.settings import load_settings
from sluiceway.runtime.environment import child_environment


def test_the_buckets_keys_have_the_names_that_dagsters_compute_logs_read() -> None:
    given = {
        "SLUICEWAY_LAKE_URL": "s3://lake",
        "SLUICEWAY_S3_ACCESS_KEY_ID": "an id",
        "SLUICEWAY_S3_SECRET_ACCESS_KEY": "a secret",
        "SLUICEWAY_S3_REGION": "eu-central-1",
    }
    found = child_environment(load_settings(given))
    assert found["AWS_ACCESS_KEY_ID"] == "an id"
    assert found["AWS_SECRET_ACCESS_KEY"] == "a secret"
    assert found["AWS_DEFAULT_REGION"] == "eu-central-1"


def test_without_an_s3_lake_nothing_is_said_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    own = child_environment(load_settings({}))
    assert own.get("AWS_ACCESS_KEY_ID") is None


def test_statistics_are_off() -> None:
    found = child_environment(load_settings({}))
    assert found["DO_NOT_TRACK"] == "1"
    assert found["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"
    assert found["GX_ANALYTICS_ENABLED"] == "false"
