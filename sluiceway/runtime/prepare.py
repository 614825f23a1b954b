"""`python -m sluiceway.runtime.prepare WORK`: what is done before the processes start, then exits.

A process of its own, so that the supervisor never loads SQLAlchemy, Alembic or dbt. Tells the supervisor on
standard output, a JSON object a line: `{"begin": what}`, `{"end": what, "note": …}`, `{"result": {…}}`,
`{"error": sentence}`. WORK is `schema` (migrations, examples, first person, Dagster's files) or `gold`.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import orjson

from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import load_secret_key
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.kit.errors import SluicewayError


def main(arguments: list[str]) -> int:
    # Libraries that print to standard output must not be taken for messages.
    messages, sys.stdout = Messages(sys.stdout), sys.stderr
    settings = load_settings()
    try:
        if arguments[0] == "gold":
            build_gold(settings, messages)
        else:
            messages.tell(result=prepare_schema(settings, messages, demo="--demo" in arguments))
    except SluicewayError as error:
        messages.tell(error=error.detail)
        return 1
    except Exception as error:
        messages.tell(error=f"{type(error).__name__}: {error}".strip())
        raise
    return 0


class Messages:
    """What the supervisor is told."""

    def __init__(self, channel: TextIO) -> None:
        self._channel = channel

    def tell(self, **message: Any) -> None:
        self._channel.write(orjson.dumps(message).decode() + "\n")
        self._channel.flush()

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """A step of the start; what is put into the list is shown at its end."""
        notes: list[str] = []
        self.tell(begin=what)
        yield notes
        self.tell(end=what, note=" ".join(notes))


def prepare_schema(settings: Settings, messages: Messages, *, demo: bool) -> dict[str, Any]:
    """Migrations, examples, the first person, Dagster's files; returns what the supervisor must know."""
    from sluiceway.migrations import migrate
    from sluiceway.runtime.accounts import ensure_first_user
    from sluiceway.runtime.identity_provider import keep_provider

    key = load_secret_key(settings)
    database = open_database(settings, key)
    with messages.step("database schema"):
        migrate(database, key)
    with messages.step("example pipelines" if demo else "platform health") as notes:
        notes.append(_apply_examples(settings, database, None if demo else "platform-health"))
    person = ensure_first_user(database, settings.home, demo=demo)
    keep_provider(settings, database)
    with database.connect(Role.OWNER, autocommit=True) as connection:
        built = connection.execute("SELECT to_regclass('gold.samples_1m') IS NOT NULL").fetchone()
    return {
        "sign_in": person,
        "gold_exists": bool(built and built[0]),
        "dagster": _dagster(settings),
    }


def _apply_examples(settings: Settings, database: Database, only: str | None) -> str:
    """Apply the files that are new or changed since this installation last applied them.

    What somebody changed afterwards in the app stays: an unchanged file is not applied again.
    """
    from sluiceway.runtime.applying import apply_source, example_files

    with database.connect(Role.OWNER, autocommit=True) as connection:
        row = connection.execute("SELECT created_at::text FROM app.workspaces WHERE id = 1").fetchone()
    path = settings.home / "examples.json"
    known: dict[str, str] = orjson.loads(path.read_bytes()) if path.exists() else {}
    if known.get("database") != (born := row[0] if row else ""):
        known = {"database": born}
    counts: dict[str, int] = {}
    for file in example_files(only):
        source = file.read_text()
        name, checksum = f"{file.parent.name}/{file.name}", hashlib.sha256(source.encode()).hexdigest()
        if known.get(name) == checksum:
            continue
        applied = apply_source(database, 1, source)
        counts[applied.outcome] = counts.get(applied.outcome, 0) + 1
        known[name] = checksum
        path.write_bytes(orjson.dumps(known))
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing changed"


def _dagster(settings: Settings) -> dict[str, list[str]]:
    """The orchestrator's processes, by name; its files are written."""
    from sluiceway.runtime.dagster_home import commands, write_dagster_home, write_workspace
    from sluiceway.runtime.preflight import free_port

    port = settings.dagster_code_port or free_port()
    write_dagster_home(settings)
    write_workspace(settings, port, settings.dagster_code_host)
    return commands(settings, port)


def build_gold(settings: Settings, messages: Messages) -> None:
    """Have dbt bring gold up to date, if anything changed."""
    from sluiceway.runtime import gold, profiles

    with messages.step("gold, built by dbt") as notes:
        database = open_database(settings)
        profiles.write_profiles(settings, database, checkout=profiles.DBT_PROJECT)
        build = gold.build_gold(settings, database)
        if not build.ran:
            notes.append("nothing changed")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
