"""The web process as the supervisor starts it: it serves, and it stops in time although streams are open."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

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


def _start(settings: Settings, database: Database, log: Path, *arguments: str) -> Web:
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
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=2).status_code == 200:
                return Web(process, address, key, log)
        except httpx.HTTPError:
            time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(log.read_text())


@pytest.fixture
def web(settings: Settings, database: Database, tmp_path: Path) -> Iterator[Web]:
    found = _start(settings, database, tmp_path / "web.log")
    yield found
    if found.process.poll() is None:
        found.process.kill()
    found.process.wait()


def _stop(web: Web) -> int:
    web.process.send_signal(signal.SIGTERM)
    return web.process.wait(timeout=60)


def test_it_serves_everything_on_one_port_and_stops_with_streams_open(web: Web) -> None:
    with httpx.Client(base_url=web.address, timeout=10) as client:
        key = {"Authorization": f"Bearer {web.key}"}
        sent = client.post("/v1/pipelines/orders/events", json={"id": 1, "amount": 2.5}, headers=key)
        assert (sent.status_code, sent.json()["accepted"]) == (202, 1)
        assert client.get("/v1/pipelines", headers=key).json()["items"][0]["slug"] == "orders"
        assert client.get("/v1/nothing").json()["code"] == "not_found"
        assert client.get("/").headers["location"] == "/sign-in"
        form = {"email": "ada@example.com", "password": PASSWORD, "next": "/pipelines"}
        assert client.post("/sign-in", data=form).headers["location"] == "/pipelines"
        page = client.get("/pipelines")
        assert page.status_code == 200 and "<title>Streamlit</title>" in page.text
        assert "sha256-" in page.headers["content-security-policy"]
        with socket.create_connection(("127.0.0.1", httpx.URL(web.address).port or 0), timeout=60) as odd:
            odd.sendall(b"this is not HTTP\r\n\r\n")
            assert odd.recv(100).startswith(b"HTTP/1.1 400")
        figures = client.get("/metrics").text
        assert (
            'sluiceway_http_refused_total{code="malformed_request",node="test",process="web"} 1.0' in figures
        )
        assert 'sluiceway_ingest_requests_total{code="accepted",node="test",process="web"} 1.0' in figures
        assert 'sluiceway_spool_records_total{node="test",process="web"} 1.0' in figures
        with client.stream("GET", "/v1/live", headers=key) as stream:
            assert stream.status_code == 200
            code = _stop(web)
            ended = list(stream.iter_raw())
        assert code == 0, web.log.read_text()
        assert isinstance(ended, list)


def test_an_ingest_process_takes_events_and_nothing_else(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    web = _start(settings, database, tmp_path / "ingest.log", "--ingest-only")
    try:
        key = {"Authorization": f"Bearer {web.key}"}
        sent = httpx.post(f"{web.address}/v1/pipelines/orders/events", json={"id": 1}, headers=key)
        assert sent.status_code == 202
        assert httpx.get(f"{web.address}/v1/pipelines", headers=key).status_code == 404
        assert _stop(web) == 0
    finally:
        if web.process.poll() is None:
            web.process.kill()
            web.process.wait()
