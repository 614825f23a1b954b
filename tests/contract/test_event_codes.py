"""Whoever sends events finds each code that can be answered in the pages about sending, and nowhere else."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import sluiceway.ingestion
from sluiceway.kit.errors import SluicewayError

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("ingestion.md", "senders.md", "limits.md", "web.md", "usage.md")
# Of those who run it, not of senders: a second writer for a spool ends at its start.
NOT_ANSWERED = {"spool_locked"}
EDGE = ("api.connection_guard", "api.cross_origin", "api.event_bodies", "api.event_requests", "api.events")
# What these raise for the event route.
ELSEWHERE = {
    "invalid_key", "expired_key", "missing_scope", "pipeline_not_found", "pipeline_archived",
    "quota_exceeded", "unavailable",
}  # fmt: skip


def kinds(base: type[SluicewayError]) -> Iterator[type[SluicewayError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_code_of_the_event_route_is_documented() -> None:
    modules = [m.name for m in pkgutil.walk_packages(sluiceway.ingestion.__path__, "sluiceway.ingestion.")]
    for name in [*modules, *EDGE]:
        importlib.import_module(name)
    raised = {kind.code for kind in kinds(SluicewayError) if kind.__module__ in {*modules, *EDGE}}
    assert {"rate_limited", "headers_too_large", "signature_stale", "too_many_members"} <= raised
    told = set(re.findall(r"`([a-z0-9_]+)`", "".join((DOCS / page).read_text() for page in PAGES)))
    assert (raised | ELSEWHERE) - NOT_ANSWERED - told == set()


def test_no_code_is_documented_that_nobody_gives() -> None:
    table = (DOCS / "ingestion.md").read_text().partition("## Errors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| \d{3} \| (.*?) \|", table, re.MULTILINE)
    told = {code for row in rows for code in re.findall(r"`([a-z0-9_]+)`", row)}
    every = {kind.code for kind in kinds(SluicewayError)}
    for name in EDGE:
        importlib.import_module(name)
    assert len(told) > 40 and told - every == set()
