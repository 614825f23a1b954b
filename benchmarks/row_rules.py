"""`row_rules`: what row-level security and row rules cost on queries, against the same queries without.

Ours: the worst of the ratios below, as QueryService answers (answers are not kept: every one differs in its
limit). Limit: 1.15, what the product promises at most. Each question is asked in turn of every variant:
- workspaces alone: the reader's role with its policies, against the database's owner, whom none holds;
- a rule: a viewer whom `region in user.regions` concerns, against an exempt one who filters by hand the same.
Both give the same rows, which is checked. Peer: the same rule as it is often written, a policy that asks for
the setting in every row.
"""

import itertools
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import load_settings
from sluiceway.migrations import migrate
from sluiceway.queries.contracts import QueryRequest, QueryResult
from sluiceway.queries.service import QueryService
from sluiceway.rules import service
from sluiceway.rules.contracts import RuleSpec
from sluiceway.runtime.gold import build_gold
from sluiceway.warehouse.gold import refresh_dirty
from sluiceway.warehouse.schema import SAMPLES, apply_pipeline, ensure_partitions

NOW = datetime(2025, 7, 31, 12, tzinfo=UTC)
DAYS, EVERY_S, REGIONS, SHOPS = 60, 20, 10, 50
ROUNDS = 41
WARM_UP = 15  # a connection's statements are planned anew ten times, then their plans are kept
MOST = 1.15
KEY = SecretKey(b"only for this benchmark, long enough")
PIPELINE = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: region, type: string, role: dimension}
  - {name: shop, type: string, role: dimension}
  - {name: amount, type: number, role: measure, required: true}
  - {name: customer, type: string}
"""
MINE = ["r1", "r3", "r7"]
EXEMPT = DataAccess.of(1, ["owner"])
VIEWER = DataAccess.of(1, ["viewer"], {"regions": MINE})
BY_HAND = [{"field": "region", "op": "in", "value": MINE}]
QUESTIONS: dict[str, dict[str, Any]] = {
    "30 days by hour and region, from gold": {
        "measures": [{"agg": "sum", "field": "amount"}, {"agg": "count"}], "dimensions": ["region"],
        "grain": "1h", "time": {"last": "30d"},
    },
    "60 days by shop, from gold": {
        "measures": [{"agg": "avg", "field": "amount"}], "dimensions": ["shop"], "time": {"last": "60d"},
    },
    "7 days, 95th percentile by shop, from rows": {
        "measures": [{"agg": "p95", "field": "amount"}], "dimensions": ["shop"], "time": {"last": "7d"},
    },
    "60 days, customers by region, from rows": {
        "measures": [{"agg": "count_distinct", "field": "customer"}], "dimensions": ["region"],
        "time": {"last": "60d"},
    },
    "the newest 500 rows": {"rows": ["region", "shop", "amount", "customer"], "time": {"last": "1d"}},
}  # fmt: skip


class Unguarded(Database):
    """Reads as the owner, whom no policy holds."""

    def engine(self, role: Role) -> sa.Engine:
        return super().engine(Role.OWNER)


def run() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-rules-"))
    server = EmbeddedPostgres(folder / "pg")
    try:
        server.start()
        database = Database(server.url, KEY)
        migrate(database, KEY)
        home = {"SLUICEWAY_HOME": str(folder / "home"), "SLUICEWAY_DATABASE_URL": server.url}
        build_gold(load_settings(home), database)
        rows = _fill(database)
        return _measure(database, Unguarded(server.url, KEY), rows)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(database: Database, unguarded: Database, rows: int) -> dict[str, Any]:
    free = QueryService(unguarded, FixedClock(NOW), timeout_ms=120_000)
    guarded = QueryService(database, FixedClock(NOW), timeout_ms=120_000)
    plain = _ratios((free, EXEMPT, []), (guarded, EXEMPT, []))
    rule = RuleSpec.model_validate(
        {"name": "regions", "pipeline": "sales", "rows": "region in user.regions", "except": ["owner"]}
    )
    service.save_rule(database, 1, rule)
    ruled = _ratios((guarded, EXEMPT, BY_HAND), (guarded, VIEWER, []))
    with database.engine(Role.OWNER).begin() as connection:
        _ask_in_every_row(connection)
    naive = _ratios((guarded, EXEMPT, BY_HAND), (guarded, VIEWER, []), of_rows_alone=True)
    worst = max([*plain.values(), *ruled.values()])
    lines = [f"{name}: {plain[name] - 1:+.1%} and {ruled[name] - 1:+.1%}" for name in QUESTIONS]
    return {
        "ours": round(worst, 3),
        "limit": MOST,
        "peer": round(max(naive.values()), 3),
        "unit": "of the time without",
        "lower_is_better": True,
        "detail": (
            f"{rows:,} rows of {DAYS} days, {REGIONS * SHOPS} series; median of {ROUNDS} rounds in turn."
            f" Cost of workspaces' policies and of a rule by an attribute: {'; '.join(lines)}."
            " Peer: a policy that reads the setting in every row."
        ),
    }


_asked = itertools.count()
"""Makes each question another one: none is answered from what is kept."""


def _ratios(without: Any, with_: Any, *, of_rows_alone: bool = False) -> dict[str, float]:
    """Time with, over time without, by question: the median over rounds. The two are asked in turn, and who
    begins changes: a machine that grows slower meanwhile does so for both."""
    found = {}
    for name, question in QUESTIONS.items():
        if of_rows_alone and name.endswith("gold"):
            continue
        times: tuple[list[float], list[float]] = ([], [])
        answers: list[QueryResult] = []
        for number in range(WARM_UP + ROUNDS):
            order = (0, 1) if number % 2 else (1, 0)
            asked = next(_asked)
            for which in order:
                queries, access, filters = (without, with_)[which]
                limit = (500 if "rows" in question else 20_000) + asked
                request = QueryRequest.model_validate(
                    {"pipeline": "sales", **question, "filters": filters, "limit": limit}
                )
                begun = time.perf_counter()
                answer = queries.run(access, request)
                took = time.perf_counter() - begun
                assert not answer.cached
                if number >= WARM_UP:
                    times[which].append(took)
                else:
                    answers.append(answer)
        _same(name, answers[-2:])
        found[name] = statistics.median(two / one for one, two in zip(*times, strict=True))
    return found


def _same(name: str, answers: list[QueryResult]) -> None:
    one, other = answers
    if len(one.rows) != len(other.rows) or one.source != other.source or not one.rows:
        raise RuntimeError(f"{name}: the answers differ")


def _fill(database: Database) -> int:
    """Rows, their series and samples as the loader leaves them, and gold over them."""
    apply_pipeline(database, 1, PIPELINE)
    begin = NOW - timedelta(days=DAYS)
    for parent in (SAMPLES, "sales"):
        ensure_partitions(database, parent, [begin + timedelta(days=n) for n in range(DAYS + 1)])
    count = DAYS * 86_400 // EVERY_S
    event = f"n AS seq, n %% {REGIONS} AS region, (n / {REGIONS}) %% {SHOPS} AS shop"
    at = f"%(begin)s + n * interval '{EVERY_S} seconds'"
    with database.connect(Role.OWNER, autocommit=True) as connection:
        values = {"begin": begin, "now": NOW, "count": count}
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO silver.sales (workspace_id, seq, event_id, event_time, received_at, batch_id,"
            " position, region, shop, amount, customer)"
            f" SELECT 1, seq, 'e' || seq, {at}, {at}, 1, 'x', 'r' || region, 's' || shop, random() * 100,"
            f" 'c' || floor(random() * 5000) FROM (SELECT n, {event} FROM generate_series(1, %(count)s) n) e",
            values,
        )
        connection.execute(
            "INSERT INTO silver.series (series_id, workspace_id, pipeline_id, metric, dimensions)"
            " SELECT 1 + r * 1000 + s, 1, p.id, 'amount',"
            "   jsonb_build_object('region', 'r' || r, 'shop', 's' || s)"
            " FROM app.pipelines p, generate_series(0, %(regions)s - 1) r,"
            " generate_series(0, %(shops)s - 1) s WHERE p.slug = 'sales'",
            {"regions": REGIONS, "shops": SHOPS},
        )
        connection.execute(
            "INSERT INTO silver.samples (workspace_id, pipeline_id, series_id, ts, value, seq)"
            " SELECT 1, p.id, 1 + substr(x.region, 2)::int * 1000 + substr(x.shop, 2)::int, x.event_time,"
            " x.amount, x.seq FROM silver.sales x, app.pipelines p WHERE p.slug = 'sales'"
        )
        connection.execute(
            "INSERT INTO gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
            " SELECT DISTINCT 1, s.pipeline_id, l.level, gold.time_bucket(l.width, s.ts)"
            " FROM silver.samples s,"
            " (VALUES ('1m', interval '1 minute'), ('1h', '1 hour'), ('1d', '1 day')) AS l (level, width)"
        )
        refresh_dirty(database)
        connection.execute("VACUUM ANALYZE")
    return count


def _ask_in_every_row(connection: sa.Connection) -> None:
    """The rule's policy on the rows, written as one would without thinking of cost."""
    name: str = connection.execute(
        sa.text(
            "SELECT polname FROM pg_policy WHERE polrelid = 'silver.sales'::regclass AND polname ~ '^rule_'"
        )
    ).scalar_one()
    connection.execute(sa.text(f"DROP POLICY {name} ON silver.sales"))
    connection.execute(
        sa.text(
            "CREATE POLICY naive ON silver.sales AS RESTRICTIVE FOR SELECT TO sluiceway_reader USING ("
            "app.rule_spares(0, '{}', '{owner}') OR region = ANY (app.rule_values(0, 'regions')))"
        )
    )
