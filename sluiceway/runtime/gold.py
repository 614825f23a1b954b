"""Builds gold: runs the dbt project as the modelers' role when what it is made from has changed.

dbt takes seconds to start, so it runs in a process of its own and only if gold is missing, the project was
edited, or a pipeline that a staging model reads was applied or has gained a column. What dbt writes (target,
logs) goes under the data folder, never into the project.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import SluicewayError
from sluiceway.runtime.environment import inherited
from sluiceway.runtime.profiles import DBT_PROJECT, write_profiles

log = logging.getLogger(__name__)

_LOCK = 0x51_01_CE_3A_15
_TIMEOUT_S = 900.0
_SOURCES = ("*.sql", "*.yml", "*.yaml", "*.csv", "*.md")
_OUTPUTS = {"target", "logs", "profiles.yml", ".user.yml", "dbt_packages"}
_SLUGS = re.compile(r"silver_events\(source\([^)]*\),\s*'([a-z0-9-]+)'")


class GoldNotBuilt(SluicewayError):
    code = "gold_not_built"
    title = "dbt could not build gold"


@dataclass(frozen=True, slots=True)
class GoldBuild:
    """`ran` is false if gold was up to date; `elapsed_s` is dbt's time, with its start."""

    ran: bool
    checksum: str
    elapsed_s: float


def build_gold(
    settings: Settings, database: Database, *, project: Path = DBT_PROJECT, force: bool = False
) -> GoldBuild:
    """Bring gold, staging and marts up to date with the project and the applied pipelines.

    Safe to call at every start and after every applied pipeline: several processes take turns, and the
    second finds nothing left to do. Raises `GoldNotBuilt` with dbt's own message.
    """
    profiles = write_profiles(settings, database)
    with _turn(database) as connection:
        checksum = _checksum(connection, project)
        manifest = profiles / "target" / "manifest.json"
        if not force and manifest.exists() and _built(connection) == checksum:
            return GoldBuild(False, checksum, 0.0)
        begun = time.monotonic()
        _run_dbt(project, profiles)
        elapsed_s = time.monotonic() - begun
        connection.execute(
            "INSERT INTO gold.builds (checksum, elapsed_s) VALUES (%s, %s)", (checksum, elapsed_s)
        )
    log.info("gold built in %.1f s", elapsed_s)
    return GoldBuild(True, checksum, elapsed_s)


def dbt_command(project: Path, profiles: Path, *arguments: str) -> list[str]:
    """How dbt is started with this project, its outputs under the folder that holds the profile."""
    return [
        sys.executable, "-c", "from dbt.cli.main import cli; cli()", *arguments,
        "--project-dir", str(project), "--profiles-dir", str(profiles),
        "--target-path", str(profiles / "target"), "--log-path", str(profiles / "logs"),
    ]  # fmt: skip


def dbt_environment() -> dict[str, str]:
    """The process's environment, with everything that would call a foreign host switched off."""
    return inherited({"DBT_SEND_ANONYMOUS_USAGE_STATS": "False", "DO_NOT_TRACK": "1"})


def _run_dbt(project: Path, profiles: Path) -> None:
    command = dbt_command(
        project, profiles, "run", "--log-format", "json", "--log-level", "warn", "--log-level-file", "debug"
    )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=dbt_environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise GoldNotBuilt(f"dbt did not end within {_TIMEOUT_S:.0f} s.") from error
    if done.returncode != 0:
        raise GoldNotBuilt(f"dbt failed: {_messages(done.stdout + done.stderr)}")


def _messages(output: str) -> str:
    """What dbt had to say, from its JSON lines; whole output lines where they are not JSON."""
    found = []
    for line in output.splitlines():
        try:
            found.append(str(json.loads(line)["info"]["msg"]).strip())
        except (ValueError, KeyError, TypeError):
            found.append(line.strip())
    return " ".join(" ".join(filter(None, found)).split())[-2000:]


def _checksum(connection: "psycopg.Connection[Any]", project: Path) -> str:
    digest = hashlib.sha256()
    slugs: set[str] = set()
    for path in sorted({p for pattern in _SOURCES for p in project.rglob(pattern)}):
        inside = path.relative_to(project)
        if inside.parts[0] in _OUTPUTS:
            continue
        text = path.read_bytes()
        slugs.update(_SLUGS.findall(text.decode(errors="replace")))
        digest.update(f"{inside}\0{len(text)}\0".encode() + text)
    rows = connection.execute(
        "SELECT p.silver_table, a.attname::text FROM app.pipelines p"
        " JOIN pg_attribute a ON a.attrelid = to_regclass(format('silver.%%I', p.silver_table))"
        " WHERE p.slug = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2",
        (sorted(slugs),),
    ).fetchall()
    extension = connection.execute("SELECT extversion FROM pg_extension ORDER BY extname").fetchall()
    digest.update(repr((rows, extension)).encode())
    return digest.hexdigest()


def _built(connection: "psycopg.Connection[Any]") -> str | None:
    """The checksum of the last build, None if an aggregate it registered is no longer there."""
    row = connection.execute(
        "SELECT checksum FROM gold.builds WHERE NOT EXISTS ("
        " SELECT FROM gold.aggregates WHERE to_regclass(name) IS NULL) ORDER BY id DESC LIMIT 1"
    ).fetchone()
    return row[0] if row else None


@contextmanager
def _turn(database: Database) -> Iterator["psycopg.Connection[Any]"]:
    connection = database.connect(Role.MODELER, autocommit=True)
    try:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        yield connection
    finally:
        connection.close()
