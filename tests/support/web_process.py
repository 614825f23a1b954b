"""The web process as the supervisor starts it, on a database with one pipeline and one person."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from sluiceway.identity import keys, service
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.warehouse.schema import apply_pipeline

PIPELINE = """\
kind: Pipeline
name: orders
event: {id: id}
fields:
  - {name: amount, type: number, role: measure}
"""
PASSWORD = "correct horse battery"


@dataclass
class Web:
    process: "subprocess.Popen[bytes]"
    address: str
    key: str
    log: Path


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_web(settings: Settings, database: Database, log: Path, *arguments: str) -> Web:
    apply_pipeline(database, 1, PIPELINE)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        key = keys.create_key(conn, 1, "test", ["ingest", "read"])
        service.create_user(conn, "ada@example.com", "Ada", PASSWORD, "owner", 1)
    port = _free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLUICEWAY_")}
    environment = {
        **inherited,
        "SLUICEWAY_HOME": str(settings.home),
        "SLUICEWAY_DATABASE_URL": settings.database_url or "",
        "SLUICEWAY_SECRET_KEY": settings.secret_key or "",
        "SLUICEWAY_NODE": "test",
        "SLUICEWAY_PORT": str(port),
    }
    command = [sys.executable, "-m", "sluiceway.runtime.processes.web", *arguments]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=2).status_code == 200:
                return Web(process, address, key, log)
        except httpx.HTTPError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text())


def stop_web(web: Web) -> int:
    web.process.send_signal(signal.SIGTERM)
    return web.process.wait(timeout=120)
