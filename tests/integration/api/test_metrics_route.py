"""The exposition: well formed, as the table of figures says, and without anybody's names."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluiceway.health.collecting import find_held
from sluiceway.infra import metrics
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.metrics import PIPELINE_FIGURES, PLATFORM_FIGURES, PROCESS_FIGURES, Figure
from sluiceway.infra.reporting import STALE_S, Reporter, folder, read_reports, sweep_reports
from sluiceway.ingestion.spool.segments import path_of

FIGURES: dict[str, Figure] = {f.name: f for f in (*PROCESS_FIGURES, *PLATFORM_FIGURES, *PIPELINE_FIGURES)}
WHERE = {"node", "process"}


def families(text: str) -> dict[str, Any]:
    """The families by name; a counter's with `_total`. Each must come once."""
    found = list(text_string_to_metric_families(text))
    named = {f.name + ("_total" if f.type == "counter" else ""): f for f in found}
    assert len(named) == len(found)
    return named


def labels_of(figure: Figure) -> set[str]:
    own = set(figure.labels) | ({"le"} if figure.kind == "histogram" else set())
    return own | (WHERE if figure in PROCESS_FIGURES else set())


def test_what_is_shown_is_what_the_table_says(world: Any) -> None:
    world.apply()
    world.services.settings.home.mkdir(parents=True, exist_ok=True)
    shown = families(world.program("read").get("/metrics").text)
    ours = {name: family for name, family in shown.items() if name.startswith("sluiceway_")}
    assert ours.keys() - FIGURES.keys() == set()
    # What only a process with a spool and a port of its own has.
    elsewhere = ("sluiceway_spool_", "sluiceway_ingest_", "sluiceway_http_refused_")
    assert {n for n in FIGURES.keys() - ours.keys() if not n.startswith(elsewhere)} == set()
    for name, family in ours.items():
        figure = FIGURES[name]
        assert (family.type, family.documentation) == (figure.kind, figure.meaning), name
        for sample in family.samples:
            allowed = labels_of(figure)
            wanted = allowed - {"le"} if sample.name.endswith(("_sum", "_count")) else allowed
            assert set(sample.labels) == wanted, sample


def test_names_follow_the_conventions() -> None:
    for name, figure in FIGURES.items():
        assert re.fullmatch(r"sluiceway_[a-z0-9_]+", name)
        assert name.endswith("_total") == (figure.kind == "counter"), name
        assert not re.search(r"_(ms|us|minutes|hours|kb|mb|percent)(_|$)", name), name
        assert figure.meaning.endswith("."), name
        assert list(figure.buckets) == sorted(set(figure.buckets))
        assert not {"le", "quantile", *WHERE} & set(figure.labels) or figure in PLATFORM_FIGURES


def test_one_scrape_holds_the_other_processes_of_the_node(world: Any) -> None:
    services = world.services
    metrics.OUTBOX_MESSAGES.labels("test.topic", "done").inc(0)
    reporter = Reporter(services.settings, "worker", services.database, clock=services.clock)
    reporter.report()
    text = world.client().get("/metrics").text
    assert 'sluiceway_process_up{node="test",process="worker"} 1.0' in text
    cpu = families(text)["process_cpu_seconds_total"]
    assert {s.labels["process"] for s in cpu.samples} == {"web", "worker"}
    reporter.stop()
    text = world.client().get("/metrics").text
    assert 'sluiceway_process_up{node="test",process="worker"} 0.0' in text
    assert {s.labels["process"] for s in families(text)["process_cpu_seconds_total"].samples} == {"web"}


def test_a_process_that_fell_silent_is_shown_as_down(world: Any) -> None:
    services = world.services
    past = FixedClock(services.clock.now() - timedelta(seconds=STALE_S + 5))
    Reporter(services.settings, "loader", None, clock=past).report()
    text = world.client().get("/metrics").text
    assert 'sluiceway_process_up{node="test",process="loader"} 0.0' in text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"node": "test"}', '{"node": 1, "families": [[]]}'])
def test_a_report_that_cannot_be_read_is_left_out(world: Any, content: str) -> None:
    path = folder(world.services.settings.home, "test") / "worker.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    assert read_reports(world.services.settings.home, "test") == []
    answer: httpx.Response = world.client().get("/metrics")
    assert answer.status_code == 200


def test_processes_of_other_nodes_are_seen_through_the_database(world: Any, tmp_path: Path) -> None:
    services = world.services
    elsewhere = replace(services.settings, home=tmp_path / "elsewhere", node="second")
    Reporter(elsewhere, "ingest", services.database, clock=services.clock).report()
    found = world.program("read").get("/v1/health/stages").json()
    assert [(p["node"], p["name"], p["state"]) for p in found["processes"]] == [
        ("second", "ingest", "ok"), ("test", "web", "ok"),
    ]  # fmt: skip
    assert 'node="second"' not in world.client().get("/metrics").text, "its own web process shows it"
    with services.database.transaction(Role.WRITER) as connection:
        assert sweep_reports(connection, services.clock.now() + timedelta(days=2)) == 1


def test_a_good_bye_is_seen_on_other_nodes(world: Any, tmp_path: Path) -> None:
    services = world.services
    elsewhere = replace(services.settings, home=tmp_path / "elsewhere", node="second")
    reporter = Reporter(elsewhere, "ingest", services.database, clock=services.clock)
    reporter.report()
    reporter.stop()
    found = world.program("read").get("/v1/health/stages").json()
    assert [p["state"] for p in found["processes"] if p["node"] == "second"] == ["warning"]  # not critical


def test_a_good_bye_needs_no_database(world: Any, secret_key: SecretKey) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", secret_key)
    Reporter(world.services.settings, "worker", away, clock=world.services.clock).stop()
    (found,) = read_reports(world.services.settings.home, "test")
    assert found.ended
    away.dispose()


def test_a_row_that_cannot_be_read_ends_no_health(world: Any, tmp_path: Path) -> None:
    """Damaged ones, and those that another version wrote."""
    services = world.services
    elsewhere = replace(services.settings, home=tmp_path / "elsewhere", node="second")
    Reporter(elsewhere, "worker", services.database, clock=services.clock).report()
    world.execute(
        "INSERT INTO app.process_reports (node, process, at, report)"
        " SELECT 'second', name, now(), report #- '{families}' || CAST(change AS jsonb)"
        " FROM app.process_reports, (VALUES ('a', '{}'), ('b', '{\"families\": [{\"kind\": \"new\"}]}'),"
        ' (\'c\', \'{"families": [], "at": "soon"}\'), (\'d\', \'{"families": [], "at": "2026-11-21"}\'),'
        " ('e', '{\"families\": [], \"state\": 5}')) AS bad (name, change)"
    )
    found = world.program("read").get("/v1/health/stages").json()
    assert [p["name"] for p in found["processes"] if p["node"] == "second"] == ["worker"]


def test_a_segment_that_is_trimmed_meanwhile_is_left_out(world: Any) -> None:
    """Listed, but gone when its size is asked for."""
    folder = world.services.settings.spool_dir
    folder.mkdir(parents=True)
    path_of(folder, 1).symlink_to(folder / "gone")
    path_of(folder, 2).write_bytes(bytes(100))
    answer = world.client().get("/metrics")
    assert answer.status_code == 200 and "sluiceway_spool_bytes 100.0" in answer.text


def test_health_needs_a_reader_and_says_what_is_missing(world: Any) -> None:
    assert world.client().get("/v1/health/stages").status_code == 401
    assert world.program("ingest").get("/v1/health/stages").status_code == 403
    found = world.program("read").get("/v1/health/stages").json()
    assert [s["key"] for s in found["stages"]] == [
        "receiving", "spool", "bronze", "loading", "gate", "gold", "live", "delivery", "database", "disk",
    ]  # fmt: skip
    loading = next(s for s in found["stages"] if s["key"] == "loading")
    assert loading["state"] == "warning"
    assert loading["findings"][0]["words"].startswith("The loader is not running: it has never been heard of")


def test_what_a_gate_holds_is_told_to_its_own_workspace(world: Any) -> None:
    world.apply()
    world.execute(
        "INSERT INTO quality.dead_letters (id, workspace_id, pipeline_id, batch_name, position, step, code,"
        " reason, payload, received_at, state) VALUES (uuidv7(), 1, 1, 'n/1/0', 'n/1/0/0', 'gate', 'held',"
        " 'too few rows', '{}', now(), 'held')"
    )
    own = world.program("read").get("/v1/health/stages").json()
    assert "The gate of orders holds 1 event since" in str(own)
    other = world.program("read", workspace_id=2).get("/v1/health/stages").text
    assert "orders" not in other
    with world.services.database.transaction(Role.OWNER) as connection:  # whom row security does not bind
        assert [held.events for held in find_held(connection, 1)] == [1] and find_held(connection, 2) == []
