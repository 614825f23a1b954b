"""What is checked before anything starts; each failure one line that says what to do."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.settings import Settings, WrongSetting, load_settings
from sluiceway.runtime import preflight
from sluiceway.runtime.environment import child_environment
from sluiceway.runtime.preflight import (
    AlreadyRunning,
    DiskFull,
    HomeUnusable,
    PortInUse,
    check_disk,
    check_ports,
    free_port,
    hold_home,
)


def make(tmp_path: Path, **values: Any) -> Settings:
    return load_settings({"SLUICEWAY_HOME": str(tmp_path), **{k: str(v) for k, v in values.items()}})


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_one_supervisor_a_folder(tmp_path: Path) -> None:
    with hold_home(tmp_path / "home"):
        code = (
            "import sys; from pathlib import Path; from sluiceway.runtime.preflight import hold_home\n"
            f"with hold_home(Path({str(tmp_path / 'home')!r})): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert other.returncode == 1 and "AlreadyRunning" in other.stderr and "SLUICEWAY_HOME" in other.stderr
        with pytest.raises(AlreadyRunning, match="process"), hold_home(tmp_path / "home"):
            pass
    with hold_home(tmp_path / "home"):
        pass


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="SLUICEWAY_HOME"), hold_home(tmp_path / "file"):
        pass


def test_a_port_in_use_names_variable_and_program(tmp_path: Path, taken: int) -> None:
    with pytest.raises(PortInUse, match=f"Port {taken} is in use.*SLUICEWAY_PORT"):
        check_ports(make(tmp_path, SLUICEWAY_PORT=taken, SLUICEWAY_DAGSTER_PORT=free_port()))
    with pytest.raises(PortInUse, match="SLUICEWAY_DAGSTER_PORT"):
        check_ports(make(tmp_path, SLUICEWAY_PORT=free_port(), SLUICEWAY_DAGSTER_PORT=taken))
    settings = make(tmp_path, SLUICEWAY_PORT=free_port(), SLUICEWAY_DAGSTER_PORT=taken)
    check_ports(settings, dagster=False)


def test_one_port_for_two_things(tmp_path: Path) -> None:
    with pytest.raises(PortInUse, match="both 9000"):
        check_ports(make(tmp_path, SLUICEWAY_PORT=9000, SLUICEWAY_DAGSTER_PORT=9000))


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(PortInUse, match="SLUICEWAY_HOST"):
        check_ports(make(tmp_path, SLUICEWAY_HOST="203.0.113.7", SLUICEWAY_PORT=free_port()))


def test_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="free at least"):
        check_disk(make(tmp_path), needed=1 << 60)
    check_disk(make(tmp_path), needed=1)
    assert preflight.FREE_BYTES > 0


def test_children_get_absolute_paths_small_heaps_and_no_telemetry(tmp_path: Path) -> None:
    found = child_environment(make(tmp_path), {"EXTRA": "1"})
    assert Path(found["SLUICEWAY_HOME"]).is_absolute()
    assert found["MALLOC_ARENA_MAX"] == "2" and found["DO_NOT_TRACK"] == "1" and found["EXTRA"] == "1"
    assert "PYTHONDONTWRITEBYTECODE" not in found
    json.dumps(found)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("SLUICEWAY_PORT", "0", "whole number from 1 to 65535"),
        ("SLUICEWAY_DATABASE_URL", "mysql://x", "begins with postgresql://"),
        ("SLUICEWAY_LAKE_URL", "ftp://x", "file:// or s3://"),
        ("SLUICEWAY_LOG_LEVEL", "loud", "one of debug"),
        ("SLUICEWAY_NODE", "a b", "letters, digits"),
        ("SLUICEWAY_SECRET_KEY", "short", "at least 32 characters"),
        ("SLUICEWAY_UNKNOWN", "1", "is not a setting"),
    ],
)
def test_a_wrong_setting_says_what_it_should_be(variable: str, value: str, told: str) -> None:
    with pytest.raises(WrongSetting) as raised:
        load_settings({variable: value})
    assert variable in raised.value.detail and told in raised.value.detail


def test_a_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(WrongSetting) as raised:
        load_settings({"SLUICEWAY_DATABASE_URL": "mysql://user:hidden@x"})
    assert "hidden" not in raised.value.detail


def test_local_addresses() -> None:
    everywhere = load_settings({"SLUICEWAY_HOST": "0.0.0.0", "SLUICEWAY_PORT": "81"})
    assert everywhere.internal_url == "http://127.0.0.1:81" and everywhere.public_url == "http://localhost:81"
    assert load_settings({"SLUICEWAY_HOST": "::1"}).internal_url == "http://[::1]:8000"
