"""A whole installation is clean; then a layer is damaged on purpose, and the report names exactly that."""

from sluiceway.infra.database import Role
from sluiceway.lake.contracts import BronzeObject
from sluiceway.verification.contracts import Found
from sluiceway.verification.ledger import Entry
from sluiceway.warehouse.gold import refresh_dirty
from tests.support.installation import Installation, troubles
from tests.support.loading import NOW, NOW_US, order, query


def objects(of: Installation) -> list[BronzeObject]:
    return of.lake.objects(of.pipeline, NOW.date())


def test_a_whole_installation_is_clean(whole: Installation) -> None:
    report = whole.verify()
    assert troubles(report) == {}
    assert report.ok and report.passed(exact=True)
    (found,) = report.pipelines
    assert (found.acknowledged, found.repeated) == (200, 50)
    assert found.layer("bronze").checked == 250
    assert found.layer("silver").checked == found.layer("seq").checked == 200
    assert found.layer("samples").checked == 400
    assert found.layer("gold").checked > 400
    assert found.layer("gold").note is None
    balance = found.balance
    assert balance is not None
    assert (balance.events, balance.rows, balance.again, balance.lost) == (250, 200, 50, 0)


def test_a_whole_installation_is_clean_without_a_ledger(whole: Installation) -> None:
    report = whole.verify(ledger=False)
    assert report.ok and troubles(report) == {}
    assert report.pipeline("orders").acknowledged is None
    whole.verify(pipelines=["orders"], ledger=False)
    assert report.pipeline("orders").layer("silver").checked == 200


def test_an_acknowledged_id_that_is_nowhere(whole: Installation) -> None:
    whole.ledger += [Entry("orders", "never-came"), Entry("orders", "never-came")]
    report = whole.verify()
    assert troubles(report) == {
        "bronze.missing": Found(1, ("never-came",)), "silver.missing": Found(1, ("never-came",)),
    }  # fmt: skip
    assert not report.ok
    assert report.pipeline("orders").repeated == 51


def test_an_event_that_nobody_acknowledged_is_extra(whole: Installation) -> None:
    whole.send([order(900), order(901)])
    whole.settle()
    report = whole.verify()
    extra = Found(2, ("o-900", "o-901"))
    assert troubles(report) == {"bronze.extra": extra, "silver.extra": extra}
    assert report.ok and not report.passed(exact=True)
    assert report.extra == 4
    assert whole.verify(ledger=False).passed(exact=True)


def test_a_silver_row_is_deleted(whole: Installation) -> None:
    whole.execute("DELETE FROM silver.orders WHERE event_id = 'o-120'")
    expected = {
        "silver.missing": Found(1, ("o-120",)),
        "seq.missing": Found(1, ("121",)),
        "samples.extra": Found(2, ("seq 121 amount", "seq 121 items")),
    }
    assert troubles(whole.verify()) == expected
    report = whole.verify(ledger=False)
    assert troubles(report) == expected
    balance = report.pipeline("orders").balance
    # It was sent twice, and neither delivery has a row now.
    assert balance is not None and (balance.rows, balance.again, balance.lost) == (199, 49, 2)


def test_a_silver_row_and_its_bronze_are_gone(whole: Installation) -> None:
    for item in objects(whole):
        whole.lake._store.delete([item.name.path])
    whole.execute("DELETE FROM silver.orders WHERE event_id = 'o-7'")
    found = troubles(whole.verify(first=1))
    assert found["silver.missing"] == Found(1, ("o-7",))
    assert found["bronze.missing"] == Found(200, ("o-0",))


def test_a_silver_row_is_doubled(whole: Installation) -> None:
    whole.execute("INSERT INTO silver.orders SELECT * FROM silver.orders WHERE event_id = 'o-5'")
    expected = {"silver.doubled": Found(1, ("o-5",)), "seq.doubled": Found(1, ("6",))}
    assert troubles(whole.verify()) == expected
    assert troubles(whole.verify(ledger=False)) == expected


def test_an_event_is_loaded_twice_under_different_positions(whole: Installation) -> None:
    whole.execute("DELETE FROM silver.event_keys WHERE event_id = 'o-150'")
    whole.accept([order(150)])
    whole.settle()
    for ledger in (True, False):
        assert troubles(whole.verify(ledger=ledger)) == {"silver.doubled": Found(1, ("o-150",))}


def test_an_id_after_the_window_is_no_double(whole: Installation) -> None:
    month = 31 * 86_400_000_000
    whole.send([order(3)], received_us=NOW_US + month)
    whole.settle()
    assert query(whole.database, "SELECT count(*) FROM silver.orders WHERE event_id = 'o-3'") == [(2,)]
    assert troubles(whole.verify()) == {}


def test_samples_are_doubled_missing_and_changed(whole: Installation) -> None:
    one = "seq = {} AND series_id IN (SELECT series_id FROM silver.series WHERE metric = '{}')"
    whole.execute(f"INSERT INTO silver.samples SELECT * FROM silver.samples WHERE {one.format(10, 'amount')}")
    whole.execute(f"DELETE FROM silver.samples WHERE {one.format(20, 'items')}")
    whole.execute(f"UPDATE silver.samples SET value = value + 1 WHERE {one.format(30, 'amount')}")
    found = troubles(whole.verify())
    # The changed minutes were refreshed before, and are not dirty: gold disagrees as well.
    gold = {name: ids for name, ids in found.items() if name.startswith("gold.")}
    assert {name: ids for name, ids in found.items() if name not in gold} == {
        "samples.doubled": Found(1, ("seq 10 amount",)),
        "samples.missing": Found(1, ("seq 20 items",)),
        "samples.wrong": Found(1, ("seq 30 amount",)),
    }
    assert set(gold) == {"gold.wrong", "gold.extra"}
    assert gold["gold.extra"].count == 1 and "1m 2026-11-21T00:19Z items" in gold["gold.extra"].first[0]


def test_gold_is_wrong(whole: Installation) -> None:
    refresh_dirty(whole.database)
    whole.execute(
        "UPDATE gold.samples_1h_materialized SET sum = sum + 1 WHERE bucket = '2026-11-21 01:00+00'"
        " AND series_id = (SELECT min(series_id) FROM silver.series WHERE metric = 'amount')"
    )
    found = troubles(whole.verify())
    assert set(found) == {"gold.wrong"}
    assert found["gold.wrong"].count == 1
    assert found["gold.wrong"].first[0].startswith("1h 2026-11-21T01:00Z amount {")
    whole.execute("DELETE FROM gold.samples_1d_materialized WHERE true")
    assert troubles(whole.verify(ledger=False))["gold.missing"].count == 6


def test_gold_that_is_not_refreshed_yet_is_right(whole: Installation) -> None:
    with whole.database.connect(Role.MODELER) as connection:
        row = connection.execute("SELECT count(*) FROM gold.dirty_buckets").fetchone()
    assert row is not None and row[0] > 0
    assert troubles(whole.verify()) == {}


def test_an_object_of_bronze_is_dropped(whole: Installation) -> None:
    newest = max(objects(whole), key=lambda o: o.name.begin)
    whole.lake._store.delete([newest.name.path])
    for ledger in (True, False):
        found = troubles(whole.verify(ledger=ledger, first=3))
        # 50 of its 100 events were sent before, and lie in another object too.
        assert found == {"bronze.missing": Found(50, ("o-150", "o-151", "o-152"))}
