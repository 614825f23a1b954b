"""The face of queries: a request in, an answer with its freshness and quality out.

Everything runs as the reader's role in one read-only transaction, with the caller's eyes (`DataAccess`). A
hot path: it opens that transaction itself.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from threading import Lock
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.sql import SQL, Identifier

from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.database_errors import is_away
from sluiceway.kit.errors import FieldError
from sluiceway.queries import repository
from sluiceway.queries.cache import AnswerCache
from sluiceway.queries.contracts import Column, Freshness, FreshnessState, Quality, QueryRequest, QueryResult
from sluiceway.queries.errors import DatabaseAway, InvalidQuery, ModelNotFound, QueryTimeout
from sluiceway.queries.gold_statements import MOST_SERIES, gold_statement, series_statement
from sluiceway.queries.planner import plan
from sluiceway.queries.relations import Relation, of_model, of_pipeline, suggestion
from sluiceway.queries.repository import PipelineHead
from sluiceway.queries.resolve import ResolvedQuery, resolve_query
from sluiceway.queries.statements import Statement, field_sql, table_statement
from sluiceway.queries.timeranges import Range
from sluiceway.rules.book import RuleBook
from sluiceway.rules.contracts import Effect

TIMEOUT_MS = 10_000
_RELATIONS_KEPT = 512
_MOST_CHANGES = 3


class QueryService:
    """Answers queries. One a process: it keeps answers and what pipelines look like.

    `gold=False` answers everything from silver (for tests of the law that both say the same).
    """

    def __init__(
        self, database: Database, clock: Clock, *, timeout_ms: int = TIMEOUT_MS, gold: bool = True
    ) -> None:
        self._database, self._clock = database, clock
        self._timeout_ms, self._gold = timeout_ms, gold
        self._cache: AnswerCache[QueryResult] = AnswerCache(lambda a: len(a.rows) * len(a.columns))
        self._relations: OrderedDict[tuple[int, int], tuple[Relation, float]] = OrderedDict()
        self._rules = RuleBook()
        self._lock = Lock()

    def run(self, access: DataAccess, request: QueryRequest) -> QueryResult:
        """The answer, of what `access` may see.

        Raises `InvalidQuery` (paths of the fields that are wrong), `PipelineNotFound`, `ModelNotFound`,
        `QueryTimeout`, `DatabaseAway`.
        """
        started = time.perf_counter()
        try:
            limits = repository.limits(self._timeout_ms)
            with self._database.transaction(Role.READER, access=access, settings=limits) as connection:
                found = self._run(connection, access, request)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            seconds = self._timeout_ms / 1000
            raise QueryTimeout(
                f"The query took longer than {seconds:g} s. Ask for a shorter time range, a coarser grain or"
                " fewer dimensions."
            ) from None
        except psycopg.errors.NumericValueOutOfRange:
            raise InvalidQuery("The values are too large to be calculated with.") from None
        except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
            if not is_away(error):
                raise
            raise DatabaseAway("The database does not answer just now.", retry_after_s=2) from error
        return replace(found, elapsed_ms=round((time.perf_counter() - started) * 1000, 2))

    def check(self, access: DataAccess, request: QueryRequest) -> list[FieldError]:
        """What `run` would refuse, without running it."""
        try:
            with self._database.transaction(Role.READER, access=access) as connection:
                relation = self._relation_of(connection, access, request)[0]
            resolve_query(request, relation, extent=None, now=self._clock.now())
        except (PipelineNotFound, ModelNotFound) as error:
            return [FieldError("pipeline" if request.model is None else "model", error.detail)]
        except InvalidQuery as error:
            return list(error.errors) or [FieldError("", error.detail)]
        return []

    def effect(self, access: DataAccess, *, pipeline: str | None = None, model: str | None = None) -> Effect:
        """What the rules of one pipeline or one model mean for `access`.

        Raises `PipelineNotFound`, `ModelNotFound`.
        """
        with self._database.transaction(Role.READER, access=access) as connection:
            if pipeline is not None:
                head = _head(connection, access.workspace_id, pipeline)
                return self._effect(connection, access, head)
            assert model is not None
            return self._rules.effect(connection, access, model=_model(connection, model).name)

    def _run(self, connection: sa.Connection, access: DataAccess, request: QueryRequest) -> QueryResult:
        run = self._run_pipeline if request.model is None else self._run_model
        for _ in range(_MOST_CHANGES):
            try:
                return run(connection, access, request)
            except _RulesChanged:
                continue
        raise DatabaseAway("The rules of this data are being changed just now.", retry_after_s=1)

    def _relation_of(
        self, connection: sa.Connection, access: DataAccess, request: QueryRequest
    ) -> tuple[Relation, Effect]:
        """What may be named, as it is for `access`, and what the rules mean for them."""
        if request.model is not None:
            relation = _model(connection, request.model)
            effect = self._rules.effect(connection, access, model=relation.name)
        else:
            assert request.pipeline is not None
            head = _head(connection, access.workspace_id, request.pipeline)
            relation = self._relation(connection, access.workspace_id, request.pipeline, head)[0]
            effect = self._effect(connection, access, head)
        return relation.seen_under(effect), effect

    def _prepare(
        self, connection: sa.Connection, access: DataAccess, effect: Effect, pipeline_id: int | None
    ) -> None:
        """Tell the transaction what the rules need to know, if any concern whoever asks."""
        if effect.ruled and pipeline_id is not None:
            repository.set_pipeline(connection, pipeline_id)
        if any(mask.kind == "hash" for mask in effect.masks.values()):
            key = self._database.derived_key(f"pseudonyms/{access.workspace_id}").hex()
            repository.set_pseudonym_key(connection, key)

    def _run_pipeline(
        self, connection: sa.Connection, access: DataAccess, request: QueryRequest
    ) -> QueryResult:
        assert request.pipeline is not None
        now, workspace_id = self._clock.now(), access.workspace_id
        head = _head(connection, workspace_id, request.pipeline)
        relation, warn_after_s = self._relation(connection, workspace_id, request.pipeline, head)
        effect = self._effect(connection, access, head)
        relation = relation.seen_under(effect)
        self._prepare(connection, access, effect, head.id)
        open_ended = request.time is None or (request.time.last is None and request.time.from_ is None)
        extent = repository.find_extent(connection, head.id) if open_ended else None
        query = resolve_query(request, relation, extent=extent, now=now)
        assert query.span is not None
        asked = (request.model_dump_json(), query.span)
        key = (workspace_id, effect.key, head.id, head.version, head.stamp, *asked)

        def compute() -> QueryResult:
            answer = self._answer(connection, workspace_id, query, now)
            assert query.span is not None
            quality, version = repository.find_quality(connection, workspace_id, head, query.span)
            # Policies hold from their commit on. What was read under other rules than the key says must not
            # become an answer of those who share the key.
            if version != effect.version:
                raise _RulesChanged
            return replace(answer, quality=quality)

        found, cached = self._cache.get(key, compute)
        return replace(
            found,
            cached=cached,
            freshness=_freshness(head, now, warn_after_s),
            restricted=effect.ruled,
        )

    def _run_model(self, connection: sa.Connection, access: DataAccess, request: QueryRequest) -> QueryResult:
        assert request.model is not None
        now, workspace_id = self._clock.now(), access.workspace_id
        relation, effect = self._relation_of(connection, access, request)
        self._prepare(connection, access, effect, None)
        extent = None
        if request.time is None and relation.time_column is not None:
            extent = _model_extent(connection, workspace_id, relation)
        query = resolve_query(request, relation, extent=extent, now=now)
        return replace(self._answer(connection, workspace_id, query, now), restricted=effect.ruled)

    def _effect(self, connection: sa.Connection, access: DataAccess, head: PipelineHead) -> Effect:
        return self._rules.effect(connection, access, pipeline_id=head.id, version=head.rules_version)

    def _answer(
        self, connection: sa.Connection, workspace_id: int, query: ResolvedQuery, now: datetime
    ) -> QueryResult:
        rows, columns, source = self._rows(connection, workspace_id, query, now)
        return QueryResult(
            columns=columns,
            rows=rows[: query.limit],
            truncated=len(rows) > query.limit,
            time=query.time,
            source=source,
            freshness=Freshness(as_of=now),
            quality=Quality(),
            elapsed_ms=0.0,
        )

    def _rows(
        self, connection: sa.Connection, workspace_id: int, query: ResolvedQuery, now: datetime
    ) -> tuple[list[tuple[Any, ...]], tuple[Column, ...], str]:
        chosen = plan(query) if self._gold else None
        if chosen is not None:
            found = series_statement(query, chosen, workspace_id)
            series = repository.fetch(connection, found.text, found.values)
            known = series if len(series) <= MOST_SERIES else None
            statement = gold_statement(query, chosen, workspace_id, now, known)
            rows = _try_gold(connection, statement)
            if rows is not None:
                return rows, statement.columns, chosen.source
        statement = table_statement(query, workspace_id, now)
        rows = repository.fetch(connection, statement.text, statement.values)
        return _as_answered(rows, statement), statement.columns, query.relation.full_name

    def _relation(
        self, connection: sa.Connection, workspace_id: int, slug: str, head: PipelineHead
    ) -> tuple[Relation, float]:
        """What the pipeline's newest version looks like: a version never changes, so it is kept."""
        key = (head.id, head.version)
        with self._lock:
            known = self._relations.get(key)
        if known is None:
            history = repository.find_specs(connection, head.id, head.version)
            pipeline = head.pipeline(workspace_id, slug, history[-1])
            known = of_pipeline(pipeline, history), pipeline.spec.freshness.warn_after.total_seconds()
            with self._lock:
                self._relations[key] = known
                while len(self._relations) > _RELATIONS_KEPT:
                    self._relations.popitem(last=False)
        return known


class _RulesChanged(Exception):
    """Rules were changed while an answer was made."""


def _head(connection: sa.Connection, workspace_id: int, slug: str) -> PipelineHead:
    head = None if "\x00" in slug else repository.find_head(connection, workspace_id, slug)
    if head is None:
        slugs = repository.find_slugs(connection, workspace_id)
        hint = f"; {suggestion(slug, slugs)}" if slugs else ""
        raise PipelineNotFound(
            f"There is no pipeline {slug!r} in this workspace{hint}".rstrip("?")
            + ("?" if "?" in hint else "."),
            errors=[FieldError("pipeline", "is not a pipeline of this workspace")],
        )
    return head


def _model(connection: sa.Connection, full_name: str) -> Relation:
    schema, _, name = full_name.rpartition(".")
    columns: Sequence[tuple[str, str, str | None]] = []
    if schema in ("", repository.MODEL_SCHEMA) and "\x00" not in name:
        columns = repository.find_model_columns(connection, name)
    # A relation that does not say whose its rows are is nobody's.
    if not any(column == "workspace_id" for column, _, _ in columns):
        names = [f"{repository.MODEL_SCHEMA}.{n}" for n in repository.find_models(connection)]
        hint = f" ({suggestion(full_name, names)})" if names else ""
        raise ModelNotFound(
            f"There is no model {full_name!r}{hint}.",
            errors=[FieldError("model", "is not a model that can be queried")],
        )
    return of_model(repository.MODEL_SCHEMA, name, columns)


def _model_extent(connection: sa.Connection, workspace_id: int, relation: Relation) -> Range | None:
    assert relation.time_column is not None
    column = field_sql(relation.fields[relation.time_column])
    text = SQL(
        "SELECT min({c})::timestamptz, max({c})::timestamptz FROM {t} WHERE workspace_id = %(w)s"
    ).format(c=column, t=Identifier(relation.schema, relation.name))
    return repository.find_time_extent(connection, text, {"w": workspace_id})


def _freshness(head: PipelineHead, now: datetime, warn_after_s: float) -> Freshness:
    lag_s, state = None, "empty"
    if head.last_received_at is not None:
        lag_s = max(0.0, round((now - head.last_received_at).total_seconds(), 3))
        state = "late" if lag_s > warn_after_s else "fresh"
    return Freshness(now, head.last_event_time, head.last_received_at, lag_s, _state(state), head.last_seq)


def _state(text: str) -> FreshnessState:
    return text  # type: ignore[return-value]  # one of the three words above


def _try_gold(connection: sa.Connection, statement: Statement) -> list[tuple[Any, ...]] | None:
    """Gold's rows; None where they are not exactly silver's, or dbt has not built it yet."""
    try:
        # A savepoint: silver must still be asked after an overflow of the sums.
        with repository.driver(connection).transaction():
            rows = repository.fetch(connection, statement.text, statement.values)
    except (psycopg.errors.NumericValueOutOfRange, psycopg.errors.UndefinedTable):
        return None
    if statement.checked:
        if not all(row[-1] for row in rows):
            return None
        rows = [row[:-1] for row in rows]
    return _as_answered(rows, statement)


def _as_answered(rows: list[tuple[Any, ...]], statement: Statement) -> list[tuple[Any, ...]]:
    """Whole numbers as int: gold's come as doubles, PostgreSQL's sum of bigint as numeric."""
    whole = [i for i, c in enumerate(statement.columns) if c.type == "integer" and c.role == "measure"]
    if not rows or not any(isinstance(row[i], float | Decimal) for row in rows for i in whole):
        return rows
    answered = []
    for row in rows:
        cells = list(row)
        for index in whole:
            value = cells[index]
            if isinstance(value, float | Decimal):
                number = int(value)
                cells[index] = number if -(2**63) <= number < 2**63 else float(value)
        answered.append(tuple(cells))
    return answered
