"""Row rules over a real database: the database itself holds to them, whoever asks and however."""

from dataclasses import replace
from typing import Any, LiteralString

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import SERVICE_ROLES, Database, Role
from sluiceway.queries.contracts import QueryRequest
from sluiceway.queries.service import QueryService
from sluiceway.rules import service
from sluiceway.rules.contracts import RuleSpec
from sluiceway.rules.errors import InvalidRule, RuleChanged, RuleNotFound
from tests.support.ruled import EU, NOW, OWNER, US, Ruled, eyes

ALL = list(range(12))
EU_ROWS, US_ROWS, NO_REGION = [0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]

# (condition, attributes of whoever looks, the amounts they see)
CASES: list[tuple[str, dict[str, list[str]], list[int]]] = [
    ("region in user.regions", {"regions": ["EU"]}, EU_ROWS),
    ("region in user.regions", {"regions": ["EU", "US"]}, sorted(EU_ROWS + US_ROWS)),
    ("region in user.regions", {"regions": ["ASIA"]}, []),
    ("region in user.regions", {}, []),
    ("region in user.regions", {"regions": []}, []),
    ("region = user.regions", {"regions": ["EU", "US"]}, sorted(EU_ROWS + US_ROWS)),
    ("region not in user.regions", {"regions": ["EU"]}, US_ROWS),
    ("region != user.regions", {"regions": ["EU"]}, US_ROWS),
    ("not region in user.regions", {}, []),  # without the attribute nothing, whatever the condition
    ("not region in user.regions or vip = true", {}, []),
    ("region = 'EU'", {}, EU_ROWS),
    ("region != 'EU'", {}, US_ROWS),
    ("region in ('EU', 'O''x') and not amount > 3", {}, [0, 3]),
    ("region is null", {}, NO_REGION),
    ("region is not null and (amount < 2 or amount >= 9)", {}, [0, 1, 9, 10]),
    ("size = user.sizes", {"sizes": ["1", "no number", "99999999999999999999"]}, [1, 3, 5, 7, 9, 11]),
    ("size in (0, 2)", {}, [0, 2, 4, 6, 8, 10]),
    ("amount in user.amounts", {"amounts": ["3.0", "4", "x", "1e5"]}, [3, 4]),
    ("amount <= 2.5", {}, [0, 1, 2]),
    ("vip = true", {}, [0, 2, 4, 6, 8, 10]),
    ("vip in user.vip", {"vip": ["false"]}, [1, 3, 5, 7, 9, 11]),
    ("paid_on < '2026-03-03'", {}, [0, 1]),
    ("tags is not null and email = user.email", {"email": ["person4@example.com"]}, [4]),
    ("email = 'person1@example.com'' OR true --'", {}, []),
    ("event_id = 'e7'", {}, [7]),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "attributes", "seen"), CASES)
def test_what_a_condition_lets_through(
    shared: Ruled, condition: str, attributes: dict[str, list[str]], seen: list[int]
) -> None:
    shared.rule(rows=condition)
    assert shared.amounts(eyes(**attributes)) == seen
    assert shared.amounts(OWNER) == ALL


def test_a_rule_holds_in_every_shape_of_question(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")
    count = {"measures": [{"agg": "count"}], "time": {"last": "30d"}}
    assert ruled.ask(EU, **count).rows == [(4,)] and ruled.ask(OWNER, **count).rows == [(12,)]
    assert ruled.ask(EU, **count).restricted and not ruled.ask(OWNER, **count).restricted
    by_region = ruled.ask(EU, measures=[{"agg": "sum", "field": "amount"}], dimensions=["region"])
    assert by_region.rows == [("EU", 18.0)]
    # Neither a filter nor an aggregate finds what is not theirs.
    us = [{"field": "region", "op": "eq", "value": "US"}]
    assert ruled.ask(EU, filters=us, **count).rows == []
    top = ruled.ask(
        EU, measures=[{"agg": "max", "field": "amount"}, {"agg": "count_distinct", "field": "email"}]
    )
    assert top.rows == [(9.0, 4)]
    assert (
        ruled.ask(EU, rows=["email"], filters=[{"field": "email", "op": "contains", "value": "n1@"}]).rows
        == []
    )


def test_nobody_known_sees_nothing_of_a_ruled_table(ruled: Ruled) -> None:
    ruled.rule(rows="region = 'EU'", **{"except": []})
    count = sa.text("SELECT count(*) FROM silver.sales")
    series = sa.text("SELECT count(*) FROM silver.series")
    samples = sa.text("SELECT count(*) FROM silver.samples")
    with ruled.database.transaction(Role.READER, workspace_id=1) as reader:
        for question in (count, series, samples):
            assert reader.execute(question).scalar() == 0
    for odd in ("[]", "{}", "[{}]", '[{"roles": null}]', '"viewer"', "null", "[null, null]"):
        with ruled.database.transaction(Role.READER, workspace_id=1) as reader:
            reader.execute(sa.text("SELECT set_config('sluiceway.access', :a, true)"), {"a": odd})
            assert reader.execute(count).scalar() == (4 if odd in ("[{}]", '[{"roles": null}]') else 0), odd
    with ruled.database.transaction(Role.READER, access=OWNER) as reader:
        assert reader.execute(count).scalar() == 4 and reader.execute(samples).scalar() == 4


def test_several_rules_hold_together(ruled: Ruled) -> None:
    ruled.rule("regions", rows="region in user.regions")
    ruled.rule("small", rows="amount < 5", roles=["viewer"])
    assert ruled.amounts(EU) == [0, 3]
    assert ruled.amounts(eyes("analyst", regions=["EU"])) == EU_ROWS
    assert ruled.amounts(eyes("viewer", "analyst", regions=["EU"])) == [0, 3]
    assert ruled.amounts(eyes("viewer", "owner")) == ALL


def test_a_change_holds_at_once_and_whatever_was_kept_is_forgotten(ruled: Ruled) -> None:
    assert ruled.amounts(EU) == ALL
    first = ruled.rule(rows="region in user.regions")
    assert ruled.amounts(EU) == EU_ROWS and ruled.amounts(US) == US_ROWS
    assert ruled.ask(EU, rows=["amount"], time={"last": "30d"}, limit=1000).cached
    second = ruled.rule(rows="region not in user.regions")
    assert (first.outcome, second.outcome, second.rule.version) == ("created", "updated", 2)
    assert ruled.amounts(EU) == US_ROWS
    assert ruled.rule(rows="region not in user.regions").outcome == "unchanged"
    service.delete_rule(ruled.database, 1, "regions")
    assert ruled.amounts(EU) == ALL
    again = ruled.rule(rows="region = 'EU'")
    assert again.rule.version == 4 and ruled.amounts(US) == EU_ROWS
    with ruled.database.transaction(Role.APP, workspace_id=1) as connection:
        found = service.list_versions(connection, 1, "regions")
    assert [(v.version, v.deleted) for v in found] == [(4, False), (3, True), (2, False), (1, False)]


def test_answers_are_shared_only_by_those_who_see_the_same(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")
    question = {"measures": [{"agg": "count"}], "dimensions": ["region"], "time": {"last": "30d"}}
    assert not ruled.ask(EU, **question).cached
    assert ruled.ask(replace(EU, roles=("analyst",)), **question).cached
    assert ruled.ask(US, **question).rows == [("US", 4)]
    assert [row[0] for row in ruled.ask(OWNER, **question).rows] == ["EU", "US", None]


def test_who_views_as_another_sees_what_both_may(ruled: Ruled) -> None:
    ruled.rule("regions", rows="region in user.regions")
    as_eu = replace(EU, behind=OWNER)
    assert ruled.amounts(as_eu) == EU_ROWS
    ruled.rule("small", rows="amount < 5", roles=["editor"], **{"except": []})
    editor = eyes("editor", regions=["EU", "US"])
    assert ruled.amounts(editor) == [0, 1, 3, 4]
    assert ruled.amounts(replace(EU, behind=editor)) == [0, 3]
    # Nobody sees more by looking through a role that sees more.
    assert ruled.amounts(replace(OWNER, behind=EU)) == EU_ROWS
    assert ruled.amounts(replace(OWNER, behind=eyes())) == []


def test_gold_answers_where_the_rule_is_about_dimensions(in_gold: Ruled) -> None:
    question: dict[str, Any] = {
        "measures": [{"agg": "sum", "field": "amount"}, {"agg": "count"}],
        "dimensions": ["region", "size"],
        "time": {"from": "2026-03-01", "to": "2026-03-11"},
    }
    in_gold.rule(rows="region in user.regions and size is not null")
    silver = QueryService(in_gold.database, FixedClock(NOW), gold=False)
    for access in (EU, US, OWNER, eyes(), eyes(regions=["EU", "US"]), replace(EU, behind=US)):
        from_gold = in_gold.ask(access, **question)
        request = QueryRequest.model_validate({"pipeline": "sales", **question})
        assert from_gold.source.startswith("gold"), access
        assert from_gold.rows == silver.run(access, request).rows
    assert in_gold.ask(EU, **question).rows == [("EU", 0, 6.0, 2), ("EU", 1, 12.0, 2)]

    in_gold.rule(rows="region in user.regions and amount < 5")  # a measure: gold cannot judge
    found = in_gold.ask(EU, **question)
    assert found.source == "silver.sales" and found.rows == [("EU", 0, 0.0, 1), ("EU", 1, 3.0, 1)]
    assert in_gold.ask(OWNER, **question).source.startswith("gold")


def test_gold_itself_shows_only_series_that_the_rule_lets_through(in_gold: Ruled) -> None:
    in_gold.rule(rows="region in user.regions")

    def counted(access: DataAccess | None) -> list[int]:
        found = []
        with in_gold.database.transaction(Role.READER, workspace_id=1, access=access) as reader:
            for name in ("gold.samples_1m", "gold.samples_1h", "gold.samples_1d", "silver.series"):
                column = "count(*)" if name == "silver.series" else "coalesce(sum(count), 0)"
                found.append(reader.execute(sa.text(f"SELECT {column} FROM {name}")).scalar())
        return [int(n) for n in found]

    for _ in range(2):  # once from what is not refreshed yet, once from what is materialized
        assert counted(EU) == [4, 4, 4, 2] and counted(OWNER) == [12, 12, 12, 6]
        assert counted(None) == [0, 0, 0, 0] and counted(eyes()) == [0, 0, 0, 0]
        with in_gold.database.connect(Role.MODELER, autocommit=True) as modeler:
            modeler.execute("CALL gold.refresh_dirty()")
    in_gold.rule(rows="amount < 5")
    assert counted(EU) == [0, 0, 0, 0] and counted(OWNER) == [12, 12, 12, 6]
    with in_gold.database.transaction(Role.READER, access=eyes("owner", workspace_id=2)) as reader:
        assert reader.execute(sa.text("SELECT count(*) FROM gold.samples_1d")).scalar() == 0


def _mart(database: Database, columns: str = "region, amount, email", kind: str = "TABLE") -> None:
    with database.connect(Role.MODELER) as connection:
        connection.execute(f"DROP {kind} IF EXISTS marts.takings")
        connection.execute(
            f"CREATE {kind} marts.takings AS SELECT workspace_id, event_time::date AS day, {columns}"
            " FROM silver.sales"
        )
        if kind == "TABLE":
            connection.execute("CALL app.isolate('marts.takings')")


def test_a_rule_on_a_mart_outlives_the_marts_rebuilding(ruled: Ruled) -> None:
    _mart(ruled.database)
    ruled.rule("takings", model="marts.takings", rows="region in user.regions")

    def seen(access: DataAccess) -> list[int]:
        found = ruled.ask(access, model="marts.takings", rows=["amount"])
        assert found.restricted is (access is not OWNER)
        return sorted(int(row[0]) for row in found.rows)

    assert seen(EU) == EU_ROWS and seen(OWNER) == ALL
    _mart(ruled.database)
    assert seen(EU) == EU_ROWS and seen(OWNER) == ALL
    # Without the column that judges, nobody is let through: not even those whom the rule does not concern.
    _mart(ruled.database, columns="amount")
    assert seen(EU) == [] and ruled.ask(OWNER, model="takings", rows=["amount"]).rows == []
    service.delete_rule(ruled.database, 1, "takings")
    assert len(ruled.ask(EU, model="takings", rows=["amount"]).rows) == 12


def test_rules_are_on_tables_that_are_there(ruled: Ruled, database: Database) -> None:
    for spec, field in (
        ({"pipeline": "purchases", "rows": "a = 1"}, "pipeline"),
        ({"pipeline": None, "model": "marts.nothing", "rows": "a = 1"}, "model"),
        ({"rows": "nothing = 1"}, "rows"),
        ({"rows": "tags = 'x'"}, "rows"),
        ({"rows": "region < 'x'"}, "rows"),
        ({"rows": "amount = 'x'"}, "rows"),
        ({"rows": "size = 99999999999999999999"}, "rows"),
        ({"rows": "vip = 1"}, "rows"),
        ({"rows": "paid_on = user.days"}, "rows"),
        ({"rows": "paid_on = 'soon'"}, "rows"),
        ({"masks": [{"field": "event_time", "as": "hide"}]}, "masks.0.field"),
        ({"masks": [{"field": "nothing", "as": "hide"}]}, "masks.0.field"),
    ):
        with pytest.raises(InvalidRule) as found:
            wanted = RuleSpec.model_validate({"name": "odd", "pipeline": "sales", **spec})
            service.save_rule(database, 1, wanted)
        assert [error.field for error in found.value.errors] == [field], spec
    with pytest.raises(RuleNotFound):
        service.delete_rule(database, 1, "odd")


def test_two_who_change_the_same_rule_are_told(ruled: Ruled) -> None:
    spec = ruled.rule(rows="region = 'EU'").rule.spec
    changed = spec.model_copy(update={"rows": "region = 'US'"})
    with pytest.raises(RuleChanged) as found:
        service.save_rule(ruled.database, 1, changed, expected_version=7)
    assert found.value.extra == {"version": 1}
    with pytest.raises(RuleChanged):
        service.save_rule(ruled.database, 1, spec, expected_version=0)
    service.save_rule(ruled.database, 1, changed, expected_version=1)
    assert ruled.amounts(EU) == US_ROWS


def test_a_rule_is_of_its_workspace(ruled: Ruled) -> None:
    with ruled.database.engine(Role.OWNER).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')")
        )
    ruled.rule(rows="region in user.regions")
    with ruled.database.transaction(Role.APP, workspace_id=2) as connection:
        assert service.list_rules(connection, 2) == []
        assert connection.execute(sa.text("SELECT count(*) FROM app.rules")).scalar() == 0
    with pytest.raises(InvalidRule):  # another workspace's pipeline is not there
        service.save_rule(ruled.database, 2, RuleSpec(name="regions", pipeline="sales", rows="region = 'EU'"))


def test_no_service_role_can_change_a_rule(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")
    refusals = (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
    statements: list[LiteralString] = [
        "UPDATE app.rules SET condition = 'true', series_condition = 'true'",
        "DELETE FROM app.rules",
        "INSERT INTO app.rule_heads VALUES (1, 1)",
        "UPDATE app.rule_versions SET spec = '{}'",
        'ALTER TABLE silver.sales DISABLE ROW LEVEL SECURITY',
        "DROP POLICY row_rules ON silver.series",
    ]  # fmt: skip
    for role in SERVICE_ROLES:
        for statement in statements:
            with ruled.database.connect(role) as connection, pytest.raises(refusals):
                connection.execute("SELECT set_config('sluiceway.workspace_id', '1', true)")
                connection.execute(statement)


def test_the_catalogs_role_reads_no_rows(ruled: Ruled) -> None:
    for name in ("silver.sales", "silver.series", "silver.samples", "gold.samples_1m"):
        with ruled.database.connect(Role.APP) as connection, pytest.raises(psycopg.Error):
            connection.execute(f"SELECT * FROM {name}")  # type: ignore[arg-type]  # one of the names above


def test_a_busy_table_is_told_and_nothing_is_changed(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluiceway.rules import repository
    from sluiceway.rules.errors import RulesBusy

    monkeypatch.setattr(repository, "LOCK_TIMEOUT", "50ms")
    with ruled.database.transaction(Role.READER, access=OWNER) as reader:
        reader.execute(sa.text("SELECT count(*) FROM silver.sales"))
        with pytest.raises(RulesBusy):
            ruled.rule(rows="region in user.regions")
    assert ruled.amounts(EU) == ALL


def test_loading_goes_on_under_rules(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")
    at = NOW.isoformat()
    ruled.loader.load([{"id": "new", "at": at, "region": "EU", "amount": 100}])
    assert ruled.amounts(EU) == [*EU_ROWS, 100] and ruled.amounts(US) == US_ROWS
