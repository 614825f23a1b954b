"""docs/data-processing.md: what is stored where, whose data is in it, how long it is kept.

The tables at the page's end are the migrated schema's own comments ("…. Personal: …. Kept: …."), so they are
true as long as those are; a test makes them anew and finds a table without one. Running this module writes
the page, over a server of its own. Not here: deleting (`identity.privacy`), retention (`housekeeping`).
"""

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from sluiceway.infra.database import Database, Role

PAGE = Path(__file__).parents[2] / "docs" / "data-processing.md"
SCHEMAS = ("app", "silver", "gold", "quality")
_COMMENT = re.compile(r"(?s)(?P<what>.+?\.) Personal: (?P<personal>.+?)\. Kept: (?P<kept>.+?)\.?\s*")
_TABLES = """
SELECT n.nspname AS schema, c.relname AS name, obj_description(c.oid) AS comment
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(:schemas) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY array_position(CAST(:schemas AS text[]), n.nspname::text), 2
"""

_MARK = "<!-- made from the schema's comments; do not edit below -->\n"
_PARTS = {
    "app": "## Schema `app`: accounts, the catalog and bookkeeping",
    "silver": "## Schema `silver`: typed events",
    "gold": "## Schema `gold`: aggregates",
    "quality": "## Schema `quality`: expectations and dead letters",
}
_AFTER = {
    "silver": "| `silver.&lt;pipeline&gt;` | One table a pipeline: its events as typed rows. |"
    " whatever the fields hold | the pipeline's `retention.silver` |\n",
    "gold": "| `gold.*`, `marts.*`, `staging.*` | What dbt builds over silver: sums and shares by time and"
    " dimension. | whatever the dimensions hold | as long as the model says |\n",
}


@dataclass(frozen=True, slots=True)
class StoredTable:
    """One table as its comment describes it; `what` empty: the comment does not have the form."""

    schema: str
    name: str
    what: str
    personal: str
    kept: str


def tables(connection: sa.Connection) -> list[StoredTable]:
    """Every table of ours but partitions and those of pipelines. Any role."""
    found = []
    for row in connection.execute(sa.text(_TABLES), {"schemas": list(SCHEMAS)}):
        match = _COMMENT.fullmatch(row.comment or "")
        parts = match.groupdict() if match is not None else {"what": "", "personal": "", "kept": ""}
        found.append(StoredTable(row.schema, row.name, parts["what"], parts["personal"], parts["kept"]))
    return found


def page(found: list[StoredTable], now: str) -> str:
    """The whole page: what people wrote in it `now`, and the tables anew."""
    text = [now.partition(_MARK)[0], _MARK]
    for schema, title in _PARTS.items():
        text.append(f"\n{title}\n\n| table | what | personal | kept |\n|---|---|---|---|\n")
        text += [
            f"| `{schema}.{t.name}` | {_cell(t.what)} | {_cell(t.personal)} | {_cell(t.kept)} |\n"
            for t in found
            if t.schema == schema
        ]
        text.append(_AFTER.get(schema, ""))
    return "".join(text)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def main() -> int:
    from sluiceway.infra.embedded import EmbeddedPostgres
    from sluiceway.infra.keys import SecretKey
    from sluiceway.migrations import migrate

    key = SecretKey(b"only for as long as this page is made")
    with tempfile.TemporaryDirectory(prefix="sluiceway-docs-") as folder:
        server = EmbeddedPostgres(Path(folder) / "pg")
        server.start()
        try:
            database = Database(server.url, key)
            migrate(database, key)
            with database.transaction(Role.OWNER) as connection:
                PAGE.write_text(page(tables(connection), PAGE.read_text()))
            database.dispose()
        finally:
            server.stop()
    sys.stdout.write(f"{PAGE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
