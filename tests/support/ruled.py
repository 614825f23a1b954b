"""A pipeline with rows of two regions, rules on it, and eyes to look with."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sluiceway.identity.contracts import DataAccess
from sluiceway.infra.clock import FixedClock
from sluiceway.infra.database import Database
from sluiceway.queries.contracts import QueryRequest, QueryResult
from sluiceway.queries.service import QueryService
from sluiceway.rules import service
from sluiceway.rules.contracts import RuleSpec, Saved
from tests.support.loaded import Loader

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
SALES = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: region, type: string, role: dimension}
  - {name: size, type: integer, role: dimension}
  - {name: amount, type: number, role: measure, required: true}
  - {name: email, type: string}
  - {name: vip, type: boolean}
  - {name: paid_on, type: date}
  - {name: tags, type: json}
"""
REGIONS = ("EU", "US", None)


def events(count: int = 12) -> list[dict[str, Any]]:
    """Every third of EU, US and nowhere; amounts 0, 1, 2, …, an hour apart."""
    return [
        {
            "id": f"e{n}", "at": (NOW - timedelta(hours=n)).isoformat(), "region": REGIONS[n % 3],
            "size": n % 2, "amount": n, "email": f"person{n}@example.com", "vip": n % 2 == 0,
            "paid_on": f"2026-03-{n + 1:02d}", "tags": {"n": n},
        }
        for n in range(count)
    ]  # fmt: skip


def eyes(*roles: str, workspace_id: int = 1, **attributes: list[str]) -> DataAccess:
    return DataAccess.of(workspace_id, roles or ["viewer"], attributes)


EU = eyes(regions=["EU"])
US = eyes(regions=["US"])
OWNER = eyes("owner")


@dataclass
class Ruled:
    """A loaded pipeline and the two services over it."""

    loader: Loader
    queries: QueryService

    @property
    def database(self) -> Database:
        return self.loader.database

    def rule(self, name: str = "regions", **spec: Any) -> Saved:
        found = {"name": name, "pipeline": "sales", "except": ["owner"], **spec}
        if "model" in found:
            del found["pipeline"]
        return service.save_rule(self.database, 1, RuleSpec.model_validate(found))

    def ask(self, access: DataAccess, **query: Any) -> QueryResult:
        if "model" not in query:
            query.setdefault("pipeline", "sales")
        return self.queries.run(access, QueryRequest.model_validate(query))

    def ids(self, access: DataAccess) -> list[str]:
        """Ids of the events whose rows are seen."""
        found = self.ask(access, rows=["event_id"], time={"last": "30d"}, limit=1000)
        return sorted(row[0] for row in found.rows)

    def amounts(self, access: DataAccess) -> list[int]:
        """Amounts of the rows that are seen, read as the reader itself."""
        found = self.ask(access, rows=["amount"], time={"last": "30d"}, limit=1000)
        return sorted(int(row[0]) for row in found.rows)


def ruled_sales(database: Database) -> Ruled:
    loader = Loader(database, SALES)
    loader.load(events(), received_at=NOW - timedelta(minutes=5))
    return Ruled(loader, QueryService(database, FixedClock(NOW)))
