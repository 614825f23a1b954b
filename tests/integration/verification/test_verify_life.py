"""What happens in an installation's life is no damage: dead letters, replays, retention, what still waits."""

import json
from datetime import timedelta

import pytest

from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Role
from sluiceway.ingestion.contracts import Position
from sluiceway.kit.errors import InvalidInput
from sluiceway.loading.replay import replay_day
from sluiceway.loading.retry import retry_dead_letters
from sluiceway.verification.contracts import Found
from sluiceway.verification.errors import InvalidLedger
from sluiceway.verification.ledger import Entry, Receipt
from sluiceway.warehouse.schema import apply_pipeline
from tests.integration.verification.conftest import Make
from tests.support.installation import Installation, troubles
from tests.support.loading import (
    NOW,
    NOW_US,
    ORDERS,
    RuleGate,
    hold_everything,
    order,
    quarantine_negative,
    query,
)

GATED = ORDERS + "quality: {suite: orders}\n"
DAY = timedelta(days=1)
DAY_US = 86_400_000_000


def retry(of: Installation, event_id: str, payload: bytes | None = None) -> int:
    ((letter,),) = query(of.database, "SELECT id FROM quality.dead_letters WHERE event_id = :e", e=event_id)
    payloads = {} if payload is None else {letter: payload}
    done = retry_dead_letters(of.database, of.gate, 1, [letter], payloads=payloads, clock=of.clock)
    return done.loaded


def replay(of: Installation) -> None:
    result = replay_day(of.database, of.lake, of.gate, of.pipeline, NOW.date(), clock=of.clock)
    assert result.verdict != "hold"


def test_dead_letters_account_for_their_ids(make: Make) -> None:
    of = make(source=GATED, gate=RuleGate(quarantine_negative))
    of.accept([order(n) for n in range(10)])
    of.accept([order(10, amount="much"), order(11, amount=-1), order(12, amount=-2), order(11, amount=-1)])
    of.send(b'{"at": "2026-11-21T00:00:00Z"}')
    of.settle()
    report = of.verify()
    assert troubles(report) == {}
    found = report.pipeline("orders")
    assert found.dead_letters.accounted == 3
    assert found.dead_letters.reasons == {
        "open gate/quarantined": 2, "open map/missing_identity": 1, "open map/wrong_type": 1,
    }  # fmt: skip
    balance = found.balance
    assert balance is not None
    assert (balance.events, balance.rows, balance.letters, balance.again) == (15, 10, 4, 1)
    of.execute("DELETE FROM quality.dead_letters WHERE event_id = 'o-10'")
    assert troubles(of.verify()) == {"silver.missing": Found(1, ("o-10",))}
    of.execute("DELETE FROM quality.dead_letters WHERE event_id IS NULL")
    lost = troubles(of.verify(ledger=False))["silver.missing"]
    assert lost.count == 2 and lost.first[0] == "o-10" and lost.first[1].startswith("test/")


def test_retried_letters_are_rows_whatever_they_were_corrected_to(make: Make) -> None:
    of = make(source=GATED, gate=RuleGate(quarantine_negative))
    of.accept([order(1), order(2, amount="much"), order(3, amount="much")])
    of.settle()
    assert retry(of, "o-2", json.dumps(order(2)).encode()) == 1
    assert retry(of, "o-3", json.dumps(order(33)).encode()) == 1
    report = of.verify()
    assert troubles(report) == {} and report.passed(exact=True)
    assert report.pipeline("orders").dead_letters.reasons == {"retried map/wrong_type": 2}
    replay(of)
    assert troubles(of.verify()) == {}
    of.execute("DELETE FROM silver.orders WHERE event_id = 'o-33'")
    found = troubles(of.verify())
    assert found["silver.missing"] == Found(1, ("o-3",))


def test_held_rows_count_as_dead_letters_and_are_let_go(make: Make) -> None:
    of = make(source=GATED, gate=RuleGate(hold_everything))
    of.accept([order(n) for n in range(5)])
    of.settle()
    report = of.verify()
    assert troubles(report) == {}
    assert report.pipeline("orders").dead_letters.reasons == {"held gate/held": 5}
    ids = [row[0] for row in query(of.database, "SELECT id FROM quality.dead_letters")]
    assert retry_dead_letters(of.database, of.gate, 1, ids, clock=of.clock).loaded == 5
    report = of.verify()
    assert troubles(report) == {}
    assert report.pipeline("orders").layer("silver").checked == 5


def test_a_replayed_day_is_whole_also_if_rows_went_away(make: Make) -> None:
    of = make(source=GATED, gate=RuleGate(quarantine_negative))
    of.accept([order(n) for n in range(20)])
    of.settle()
    replay(of)
    assert troubles(of.verify()) == {}
    # A stricter suite takes rows away, and their seqs with them: no gap that anybody must answer for.
    of.gate.rule = lambda frame: quarantine_negative(frame.assign(amount=frame["amount"] - 1))  # type: ignore[attr-defined]
    replay(of)
    report = of.verify()
    assert troubles(report) == {}
    assert report.pipeline("orders").layer("silver").checked == 16
    of.execute("DELETE FROM silver.orders WHERE event_id = 'o-9'")
    found = troubles(of.verify())
    assert found["silver.missing"] == Found(1, ("o-9",))
    assert found["seq.missing"].count == 1 and "10" in found["seq.missing"].first


def test_what_is_not_loaded_yet_waits_and_is_not_lost(whole: Installation) -> None:
    whole.accept([order(300), order(301)])
    whole.flush()
    report = whole.verify()
    assert troubles(report) == {}
    assert report.pipeline("orders").layer("silver").waiting == 2
    assert not report.ok, "an id that waits is not proven"
    assert whole.verify(ledger=False).ok
    whole.load()
    assert whole.verify().ok


def test_what_is_not_in_the_lake_yet_waits_if_it_is_known_how_far_that_is(whole: Installation) -> None:
    read_to = whole.bronze.position
    whole.accept([order(300), order(301)])
    whole.load()
    assert troubles(whole.verify())["bronze.missing"] == Found(2, ("o-300", "o-301"))
    report = whole.verify(bronze_read_to={"test": read_to})
    assert troubles(report) == {} and report.ok
    assert report.pipeline("orders").layer("bronze").waiting == 2
    beyond = Position(read_to.segment + 1, 0)
    assert "bronze.missing" in troubles(whole.verify(bronze_read_to={"test": beyond}))


def test_without_a_lake_the_ledger_is_compared_with_silver(whole: Installation) -> None:
    whole.lake = None  # type: ignore[assignment]
    whole.ledger.append(Entry("orders", "never-came"))
    report = whole.verify()
    assert troubles(report) == {"silver.missing": Found(1, ("never-came",))}
    assert report.pipeline("orders").layer("bronze").note == "left out"
    assert report.pipeline("orders").balance is None


def test_what_is_past_retention_is_out_of_reach(make: Make) -> None:
    kept = ORDERS + "retention: {bronze: 30d, silver: 10d}\n"
    of = make()
    of.accept([order(1), order(2)], received_us=NOW_US)
    of.settle()
    apply_pipeline(of.database, 1, kept)
    later = FixedClock(NOW + 40 * DAY)
    report = of.verify(clock=later)
    assert troubles(report) == {}  # still there: nothing to say about it
    of.lake.apply_retention(of.pipeline, later.now())
    found = of.verify(clock=later).pipeline("orders")
    assert found.ok and found.layer("bronze").out_of_reach == 2
    assert found.layer("seq").note is not None
    # A ledger that says when: the id is gone from everywhere, as it should be.
    of.execute("DELETE FROM silver.orders WHERE event_id = 'o-1'")
    of.ledger = [Entry("orders", "o-1", NOW), Entry("orders", "o-2", NOW)]
    found = of.verify(clock=later).pipeline("orders")
    assert found.layer("bronze").out_of_reach == 2 and found.layer("silver").out_of_reach == 1
    assert not found.layer("silver").missing and not found.layer("bronze").missing
    of.ledger = [Entry("orders", "o-1", later.now())]
    assert of.verify(clock=later).pipeline("orders").layer("silver").missing == Found(1, ("o-1",))


def test_only_a_range_of_receipt(make: Make) -> None:
    of = make()
    of.accept([order(n) for n in range(10)], received_us=NOW_US - 2 * DAY_US + DAY_US)
    of.accept([order(n, at="2026-11-20T05:00:00Z") for n in range(20, 30)], received_us=NOW_US)
    of.accept([order(5)], received_us=NOW_US)
    of.settle()
    of.execute("DELETE FROM silver.orders WHERE event_id IN ('o-1', 'o-21')")
    today = NOW.replace(hour=0)
    of.ledger = [Entry("orders", f"o-{n}", NOW) for n in range(20, 30)]
    of.ledger += [Entry("orders", f"o-{n}", NOW - DAY) for n in range(10)] + [Entry("orders", "o-5", NOW)]
    found = troubles(of.verify(received_from=today))
    assert found["silver.missing"] == Found(1, ("o-21",))
    assert found["samples.extra"].first == ("seq 12 amount", "seq 12 items")
    assert "bronze.missing" not in found
    found = troubles(of.verify(received_to=today, ledger=False))
    assert found["silver.missing"] == Found(1, ("o-1",))
    with pytest.raises(InvalidInput, match="should lie after"):
        of.verify(received_from=today, received_to=today)


def test_a_consumer_missed_one_got_one_twice_and_one_that_is_not_there(whole: Installation) -> None:
    rows = query(whole.database, "SELECT seq, event_id FROM silver.orders WHERE seq > 50 ORDER BY seq")
    got = [Receipt("orders", event_id, seq) for seq, event_id in rows]
    report = whole.verify(consumer=got)
    assert troubles(report) == {} and report.pipeline("orders").layer("consumer").checked == 150
    report = whole.verify(consumer=[*got[:10], *got[11:], got[20], Receipt("orders", "x", 52)])
    found = report.pipeline("orders").layer("consumer")
    assert found.missing == Found(1, ("seq 61 o-60",))
    assert found.doubled == Found(1, ("seq 71 o-70",))
    assert found.wrong == Found(1, ("seq 52 o-51",))
    assert not report.ok
    # A list of ids alone has no beginning: it is held against every row.
    report = whole.verify(consumer=[Receipt("orders", f"o-{n}", None) for n in (*range(1, 200), 7, 999)])
    found = report.pipeline("orders").layer("consumer")
    assert (found.missing, found.doubled) == (Found(1, ("o-0",)), Found(1, ("o-7",)))
    assert found.extra == Found(1, ("o-999",))


def test_a_field_that_became_a_measure_later(whole: Installation) -> None:
    source = (
        ORDERS.replace("role: measure, unit: EUR", "role: attribute") + "  - {name: more, type: number}\n"
    )
    apply_pipeline(whole.database, 1, source)
    whole.restart()
    whole.accept([order(n) for n in range(200, 210)])
    whole.settle()
    assert troubles(whole.verify()) == {}
    whole.execute("DELETE FROM silver.samples WHERE seq = 5")
    assert troubles(whole.verify())["samples.missing"] == Found(2, ("seq 5 amount", "seq 5 items"))


def test_a_paused_pipelines_events_wait(whole: Installation) -> None:
    with whole.database.transaction(Role.APP, workspace_id=1) as connection:
        Catalog().set_state(connection, 1, "orders", "paused")
    whole.restart()
    whole.accept([order(400)])
    whole.settle()
    found = whole.verify().pipeline("orders")
    assert found.layer("silver").waiting == 1 and not found.layer("silver").missing
    with whole.database.transaction(Role.APP, workspace_id=1) as connection:
        Catalog().set_state(connection, 1, "orders", "active")
    replay(whole)
    assert whole.verify().ok


def test_events_without_an_id_are_acknowledged_by_their_position(make: Make) -> None:
    of = make(source=ORDERS.replace("id: id, ", ""))
    of.send([order(1), order(2, amount="much"), order(3)])
    of.send(b'{"at": 1}', headers={"idempotency-key": "k"})
    of.settle()
    rows = query(of.database, "SELECT position FROM silver.orders ORDER BY seq")
    prefix = rows[0][0].rpartition("/")[0]
    of.ledger = [Entry("orders", "", position=f"{prefix}/{n}") for n in range(3)]
    of.ledger.append(Entry("orders", "", position=rows[2][0]))
    report = of.verify()
    assert troubles(report) == {} and report.passed(exact=True)
    assert report.pipeline("orders").dead_letters.accounted == 1
    of.ledger.append(Entry("orders", "", position=f"{prefix}/3"))
    assert troubles(of.verify())["silver.missing"] == Found(1, (f"{prefix}/3",))
    of.ledger.pop()
    of.execute("DELETE FROM silver.orders WHERE seq = 2")
    assert troubles(of.verify())["silver.missing"] == Found(1, (f"{prefix}/2".replace("/", "-"),))
    apply_pipeline(of.database, 1, ORDERS.replace("id: id, ", "") + "source: {split: orders}\n")
    with pytest.raises(InvalidLedger, match=r"source\.split"):
        of.verify()


def test_a_pipeline_that_is_not_there(whole: Installation) -> None:
    with pytest.raises(PipelineNotFound):
        whole.verify(pipelines=["nothing"])
    whole.ledger.append(Entry("nothing", "1", line=7))
    with pytest.raises(InvalidLedger, match="line 7: there is no pipeline 'nothing'"):
        whole.verify()
