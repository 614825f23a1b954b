"""Every command, variable, port and file that the compose file and the image name exists in the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sluiceway.infra.settings import SETTINGS, load_settings
from sluiceway.runtime.cli import app
from sluiceway.runtime.commands.operations import PROCESSES

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {n: s for n, s in COMPOSE["services"].items() if str(s["image"]).startswith("sluiceway:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = ("POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD", "SLUICEWAY_SECRET_KEY")


def commands() -> set[str]:
    return {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}


def environment(service: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    """The service's variables as compose would fill them in from `values`."""

    def fill(match: re.Match[str]) -> str:
        return values.get(match[1]) or match[3] or ""

    pattern = re.compile(r"\$\{(\w+)(:[-?]([^}]*))?\}")
    return {name: pattern.sub(fill, str(value)) for name, value in service["environment"].items()}


@pytest.mark.parametrize("name", OURS)
def test_commands_and_processes_exist(name: str) -> None:
    service = OURS[name]
    command = service["command"]
    assert command[0] in commands()
    if command[0] == "process":
        assert command[1] in PROCESSES
        probe = service["healthcheck"]["test"]
        assert probe == ["CMD", "sluiceway", "healthy", command[1]]
        assert probe[2] in commands()


@pytest.mark.parametrize("name", OURS)
def test_settings_are_known_and_valid(name: str) -> None:
    filled = environment(OURS[name], dict.fromkeys(SECRETS, "x" * 40))
    settings = load_settings(filled)
    assert not settings.embedded
    assert settings.secret_key == "x" * 40
    assert settings.dagster_code_port is not None


def test_every_kind_of_process_runs_somewhere() -> None:
    assert {s["command"][1] for s in OURS.values() if s["command"][0] == "process"} == set(PROCESSES)


def test_ports_and_addresses_fit_the_settings() -> None:
    for service in OURS.values():
        settings = load_settings(environment(service, dict.fromkeys(SECRETS, "x" * 40)))
        for published in service.get("ports", []):
            inside = int(published.rsplit(":", 1)[1])
            assert inside in (settings.port, settings.dagster_port)
            assert published.startswith("127.0.0.1:")
        for url in (settings.internal_url, settings.dagster_url):
            host = url.split("//")[1].split(":")[0]
            assert host in COMPOSE["services"] or host == "127.0.0.1"
        assert settings.dagster_code_host in COMPOSE["services"]


def test_a_spool_has_one_writer_and_one_loader() -> None:
    nodes: dict[str, list[str]] = {}
    for service in OURS.values():
        kind = service["command"][-1]
        if kind in ("web", "ingest", "loader"):
            nodes.setdefault(service["environment"]["SLUICEWAY_NODE"], []).append(kind)
    assert nodes
    for kinds in nodes.values():
        assert sorted(kinds) in (["loader", "web"], ["ingest", "loader"])


def test_dependencies_volumes_and_anchors_are_there() -> None:
    for name, service in COMPOSE["services"].items():
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in COMPOSE["services"], name
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in COMPOSE["services"][needed]
        for mounted in service.get("volumes", []):
            assert mounted.split(":")[0] in COMPOSE["volumes"], name


def test_secrets_have_no_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in SECRETS:
        uses = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert uses
        assert all(use.startswith(":?") for use in uses)
    assert {v for v, s in ((s.variable, s) for s in SETTINGS.values()) if s.secret} >= {
        "SLUICEWAY_SECRET_KEY"
    }


def test_the_database_is_new_enough_to_refresh_correctly() -> None:
    version = re.search(r"timescaledb:(\d+)\.(\d+)\.(\d+)-pg1[78]$", COMPOSE["services"]["database"]["image"])
    assert version is not None
    assert tuple(map(int, version.groups())) >= (2, 29, 2)


def test_what_the_image_copies_exists_and_it_does_not_run_as_root() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)
    for variable in re.findall(r"\b(SLUICEWAY_\w+)=", DOCKERFILE):
        assert variable in {s.variable for s in SETTINGS.values()}
