"""What the health page says of figures: the words, and how serious they are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric

from sluiceway.health.contracts import Health, Stage
from sluiceway.health.facts import DatabaseFacts, Held, NodeFacts, OtherSpool, Past, Sample
from sluiceway.health.judgement import trends
from sluiceway.health.service import assess
from sluiceway.infra.reporting import Report
from sluiceway.ingestion.spool.backlog import Backlog

NOW = datetime(2026, 11, 21, 14, 3, tzinfo=UTC)
MB = 1024 * 1024
DISK = NodeFacts(
    spool_bytes=10 * MB, spool_max_bytes=100 * MB, segments=1, disk_free_bytes=500_000 * MB,
    disk_total_bytes=1_000_000 * MB, disk_reserve_bytes=256 * MB, silver=Backlog(0, None),
    bronze=Backlog(0, None),
)  # fmt: skip
DATABASE = DatabaseFacts(
    answer_s=0.004, dirty_buckets=0, dirty_oldest=None, outbox_waiting=0, outbox_oldest=None,
    outbox_failing=0, outbox_given_up=0, outbox_topic=None, last_batch_at=NOW - timedelta(seconds=2),
    connections=12, max_connections=100,
)  # fmt: skip


def counted(name: str, label: str = "", **values: float) -> Metric:
    family = CounterMetricFamily(name, "text", labels=[label] if label else None)
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def waits(size_bytes: int, age_s: float) -> Backlog:
    return Backlog(size_bytes, int((NOW.timestamp() - age_s) * 1e6))


def report(
    process: str, *families: Metric, age_s: float = 1, ended: bool = False, node: str = "n", **state: Any
) -> Report:
    at = NOW - timedelta(seconds=age_s)
    return Report(node, process, at, NOW - timedelta(hours=1), ended, state, list(families))


def sample(*reports: Report, at: datetime = NOW, **changes: Any) -> Sample:
    """All well, but for `changes` and the processes given."""
    all_well = (report("web", listening=True), report("loader"), report("worker"))
    known = {(r.node, r.process): r for r in (*all_well, *reports)}
    found = Sample(
        at=at, node="n", reports=list(known.values()), disk=DISK, database=DATABASE, database_error=None,
        flush_s=10.0, lake="s3://lake",
    )  # fmt: skip
    return replace(found, **changes)


def judge(newest: Sample, before: Sample | None = None, *held: Held, stuck_s: float | None = None) -> Health:
    past = Past(trends)
    past.add(before or replace(newest, at=newest.at - timedelta(seconds=50)))
    past.add(newest)
    return assess(past, held, 5.0, stuck_s)


def stage(found: Health, key: str) -> Stage:
    return next(stage for stage in found.stages if stage.key == key)


def words(found: Health, key: str) -> tuple[str, str]:
    (finding,) = stage(found, key).findings
    return finding.state, finding.words


def test_all_is_well() -> None:
    found = judge(sample())
    assert (found.state, found.words) == ("ok", "Everything flows.")
    assert [s.findings for s in found.stages] == [[]] * 10
    assert all(any(f.key == s.trend for f in s.figures) for s in found.stages)
    assert all(len(s.history) == 2 for s in found.stages)


def test_a_stopped_loader_while_events_wait() -> None:
    disk = replace(DISK, silver=waits(1_288_490_189, 190), bronze=waits(700, 190))
    database = replace(DATABASE, last_batch_at=NOW - timedelta(seconds=195))
    found = judge(sample(report("loader", age_s=60, ended=True), disk=disk, database=database))
    assert words(found, "loading") == (
        "critical",
        "The loader has not committed for 3 min although 1.2 GB wait: it was stopped at 14:02 UTC.",
    )
    assert words(found, "bronze")[1].startswith("Nothing is written to the lake although 700 B wait")
    assert found.words == "Bronze and Loading need help." and found.state == "critical"
    assert [p.state for p in found.processes] == ["ok", "warning", "ok"]


def test_a_silent_loader_with_nothing_to_do_is_only_a_warning() -> None:
    found = judge(sample(report("loader", age_s=61)))
    assert words(found, "loading") == (
        "warning",
        "The loader is not running: it has not been heard of for 61 s. Nothing waits for it yet.",
    )
    assert found.words == "Loading wants a look."


def test_a_loader_that_the_database_refuses() -> None:
    trouble = {"since": (NOW - timedelta(seconds=180)).isoformat(), "reason": "Connection refused"}
    found = judge(
        sample(
            report("loader", loading=trouble),
            disk=replace(DISK, silver=waits(5000, 170)),
            database=None,
            database_error="Connection refused",
        )
    )
    assert words(found, "loading") == (
        "critical",
        "The loader has not committed for 3 min although 4.9 kB wait: the database does not answer"
        " (Connection refused).",
    )
    assert words(found, "database")[1] == "The database does not answer: Connection refused."
    assert {stage(found, key).state for key in ("gold", "delivery")} == {"unknown"}


def test_a_loader_that_is_behind_says_where_its_time_goes() -> None:
    def spent(gate: float, commit: float) -> Metric:
        family = HistogramMetricFamily("sluiceway_stage_seconds", "text", labels=["stage", "origin"])
        for name, value in (("gate", gate), ("commit", commit)):
            family.add_metric([name, "live"], [("+Inf", value)], value)
        return family

    newest = sample(report("loader", spent(39, 13)), disk=replace(DISK, silver=waits(9 * MB, 45)))
    before = sample(report("loader", spent(0, 0), age_s=51), at=NOW - timedelta(seconds=50))
    assert words(judge(newest, before), "loading") == (
        "warning",
        "The loader is 45 s behind, 9.0 MB wait; 75% of its time goes into the quality gate.",
    )


def test_refused_requests_are_told_with_their_code() -> None:
    name = "sluiceway_ingest_requests_total"
    newest = sample(report("web", counted(name, "code", accepted=90, invalid_key=8, rate_limited=2)))
    before = sample(
        report("web", counted(name, "code", accepted=0), age_s=51), at=NOW - timedelta(seconds=50)
    )
    assert words(judge(newest, before), "receiving") == (
        "warning",
        "10% of the last minute's requests were refused, most with code invalid_key.",
    )
    few = sample(report("web", counted(name, "code", accepted=90, invalid_key=4)))
    assert stage(judge(few, before), "receiving").state == "ok"


@pytest.mark.parametrize(("used", "state"), [(69, "ok"), (70, "warning"), (100, "critical")])
def test_a_spool_that_fills(used: int, state: str) -> None:
    found = judge(sample(disk=replace(DISK, spool_bytes=used * MB)))
    assert stage(found, "spool").state == state


def test_a_lake_that_fails() -> None:
    trouble = {"since": (NOW - timedelta(seconds=61)).isoformat(), "reason": "The lake cannot be reached"}
    found = judge(sample(report("loader", bronze=trouble), disk=replace(DISK, bronze=waits(2 * MB, 70))))
    assert words(found, "bronze") == (
        "critical",
        "Bronze has not been written for 61 s, 2.0 MB wait: The lake cannot be reached.",
    )
    assert "s3://lake" in stage(found, "bronze").findings[0].advice


def test_what_a_gate_holds_is_the_asking_workspaces() -> None:
    held = Held("orders", 132, NOW - timedelta(minutes=63))
    assert words(judge(sample(), None, held), "gate") == (
        "warning",
        "The gate of orders holds 132 events since 13:00 UTC: they are in no number until someone decides.",
    )


def test_gold_and_delivery_name_the_worker() -> None:
    database = replace(
        DATABASE, dirty_buckets=40, dirty_oldest=NOW - timedelta(seconds=400), outbox_waiting=3,
        outbox_oldest=NOW - timedelta(seconds=700),
    )  # fmt: skip
    found = judge(sample(report("worker", age_s=90), database=database))
    assert words(found, "gold") == (
        "warning",
        "Gold was not refreshed for 7 min: the worker does it, and it has not been heard of for 90 s.",
    )
    assert words(found, "delivery")[0] == "critical"
    given_up = replace(DATABASE, outbox_waiting=1, outbox_given_up=1, outbox_topic="replay.asked")
    assert words(judge(sample(database=given_up)), "delivery")[1].startswith(
        "1 message of topic replay.asked"
    )


def test_the_disk_and_the_database_have_limits() -> None:
    full = judge(sample(disk=replace(DISK, disk_free_bytes=200 * MB)))
    assert words(full, "disk")[0] == "critical"
    crowded = judge(sample(database=replace(DATABASE, connections=91)))
    assert words(crowded, "database") == ("critical", "91% of the database's 100 connections are taken.")
    stuck = judge(sample(), stuck_s=40)
    assert words(stuck, "database")[1] == "The database has not answered a question for 40 s."
    near = judge(sample(disk=replace(DISK, disk_reserve_bytes=450_000 * MB)))
    assert words(near, "disk") == ("warning", "488.3 GB of the disk are free (50%).")


def test_a_disk_that_shrinks_says_when_it_is_full() -> None:
    past = Past(trends)
    for step in range(0, 601, 5):
        free = 2_000 * MB - step * MB
        past.add(sample(at=NOW + timedelta(seconds=step), disk=replace(DISK, disk_free_bytes=free)))
    found = assess(past, (), 5.0)
    assert words(found, "disk") == (
        "warning",
        "At the pace of the last minutes the disk is full in 19 min (1.4 GB are free).",
    )
    assert len(stage(found, "disk").history) == 121


def test_a_process_that_began_anew_counts_from_zero() -> None:
    name = "sluiceway_spool_events_total"
    before = sample(report("web", counted(name, all=1000.0), age_s=51), at=NOW - timedelta(seconds=50))
    fresh = replace(report("web", counted(name, all=100.0)), started_at=NOW - timedelta(seconds=10))
    found = judge(sample(fresh), before)
    (events,) = (f for f in stage(found, "receiving").figures if f.key == "events")
    assert events.value == 2.0


def test_sizes_of_batches_duplicates_and_dead_letters_are_figures() -> None:
    def told(events: float, batches: float, again: float, dead: float) -> Report:
        size = HistogramMetricFamily(
            "sluiceway_batch_events", "text", buckets=[("+Inf", batches)], sum_value=events
        )
        loader = counted("sluiceway_duplicates_total", all=again)
        return report("loader", size, loader, counted("sluiceway_dead_letters_total", all=dead))

    before = sample(replace(told(0, 0, 0, 0), at=NOW - timedelta(seconds=50)), at=NOW - timedelta(seconds=50))
    found = judge(sample(told(3_000, 20, 100, 5)), before)
    loading = {f.key: f.value for f in stage(found, "loading").figures}
    assert (loading["size"], loading["again"]) == (150, 2)
    assert {f.label: f.value for f in stage(found, "gate").figures}["Dead letters"] == 0.1


def test_a_quantile_is_the_bucket_it_lies_in() -> None:
    def synced(*counts: float) -> Metric:
        bounds = ("0.001", "0.5", "+Inf")
        return HistogramMetricFamily(
            "sluiceway_spool_sync_seconds",
            "text",
            buckets=list(zip(bounds, counts, strict=True)),
            sum_value=1,
        )

    before = sample(report("web", synced(0, 0, 0), age_s=51), at=NOW - timedelta(seconds=50))
    quick = judge(sample(report("web", synced(99, 100, 100))), before)
    assert stage(quick, "receiving").figures[-1].value == 0.001
    slow = judge(sample(report("web", synced(90, 100, 100))), before)
    assert words(slow, "receiving")[1].startswith("The disk takes up to 500 ms")


QUIET = Backlog(0, None)


def elsewhere(
    silver: Backlog | None, bronze: Backlog | None = QUIET, *, seen: bool = False, attended: bool = True
) -> tuple[OtherSpool, ...]:
    return (OtherSpool("far", seen, attended, silver, bronze),)


def test_other_nodes_at_which_nothing_waits_are_no_trouble() -> None:
    gone = report("loader", node="far", age_s=4_000)
    assert judge(sample(gone, others=elsewhere(QUIET))).words == "Everything flows."
    assert judge(sample(others=elsewhere(None, None, seen=True, attended=False))).words == "Everything flows."


def test_what_waits_elsewhere_is_in_the_figures() -> None:
    disk = replace(DISK, silver=waits(1 * MB, 2), bronze=waits(3 * MB, 4))
    found = judge(sample(report("loader", node="far"), disk=disk, others=elsewhere(waits(4 * MB, 5), QUIET)))
    figures = {f.key: f.value for f in stage(found, "loading").figures}
    assert (figures["waiting"], figures["lag"]) == (5 * MB, 5)
    figures = {f.key: f.value for f in stage(found, "bronze").figures}
    assert (figures["waiting"], figures["lag"]) == (3 * MB, 4)
    assert found.state == "ok"


def test_a_dead_nodes_events_are_told() -> None:
    gone = report("loader", node="far", age_s=300)
    found = judge(sample(gone, others=elsewhere(waits(2 * MB, 300), attended=False)))
    assert words(found, "loading") == (
        "critical",
        "The loader of node far is not at work although 2.0 MB wait: it has not been heard of for 5 min.",
    )
    assert found.words == "Loading needs help."


def test_a_spool_on_this_disk_that_nobody_loads_is_told() -> None:
    left = elsewhere(waits(2 * MB, 60), waits(2 * MB, 1_000), seen=True, attended=False)
    found = judge(sample(others=left))
    assert words(found, "loading") == (
        "warning",
        "2.0 MB wait in the spool of node far for up to 60 s, and no loader works on it.",
    )
    assert "sluiceway spool drain" in stage(found, "loading").findings[0].advice
    assert words(found, "bronze") == (
        "critical",
        "Bronze of node far is 17 min behind: 2.0 MB wait to be written to the lake.",
    )


def test_another_nodes_loader_says_what_it_fails_at() -> None:
    trouble = {"since": (NOW - timedelta(seconds=200)).isoformat(), "reason": "DiskFull, SQLSTATE 53100"}
    far = report("loader", node="far", loading=trouble, bronze={**trouble, "reason": "Connection refused"})
    found = judge(sample(far, others=elsewhere(waits(5000, 190), waits(5000, 190))))
    assert words(found, "loading") == (
        "critical",
        "The loader of node far has not committed for 3 min although 4.9 kB wait: its tries fail (DiskFull,"
        " SQLSTATE 53100).",
    )
    assert words(found, "bronze") == (
        "critical",
        "Bronze of node far has not been written for 3 min, 4.9 kB wait: Connection refused.",
    )
    behind = judge(sample(report("loader", node="far"), others=elsewhere(waits(9 * MB, 130))))
    assert words(behind, "loading") == ("critical", "The loader of node far is 2 min behind, 9.0 MB wait.")


def test_a_folder_of_anothers_name_is_told_with_what_to_do() -> None:
    reason = "Another spool goes by this node's name (spool_name_taken)"
    trouble = {"since": (NOW - timedelta(seconds=200)).isoformat(), "reason": reason}
    found = judge(sample(report("loader", loading=trouble), disk=replace(DISK, silver=waits(5000, 190))))
    assert words(found, "loading")[0] == "critical"
    assert "sluiceway spool rename" in stage(found, "loading").findings[0].advice


def test_refusals_of_other_processes_are_told_while_they_live() -> None:
    found = judge(sample(report("ingest", node="far", refusal="disk_full")))
    assert words(found, "spool") == ("critical", "New events are refused on node far (disk_full).")
    silent = judge(sample(report("ingest", node="far", refusal="disk_full", age_s=60)))
    assert stage(silent, "spool").findings == []


def test_the_worst_of_several_spools_comes_first() -> None:
    disk = replace(DISK, silver=waits(9 * MB, 45))
    found = judge(sample(report("loader", node="far"), disk=disk, others=elsewhere(waits(1, 130))))
    assert [f.state for f in stage(found, "loading").findings] == ["critical", "warning"]
