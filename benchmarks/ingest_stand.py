"""What both ingest benchmarks stand on: a database with a pipeline and a key, a server, a load process.

The server is an ingest process as it is deployed (`create_app` with the role `ingest` on uvicorn with uvloop
and our protocol); `echo` is the bare ASGI application it is compared with, on uvicorn as it comes.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from sluiceway.identity.keys import create_key
from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey
from sluiceway.migrations import migrate
from sluiceway.warehouse.schema import apply_pipeline

SECRET = "a key for benchmarks only, long enough"
PATH = "/v1/pipelines/bench/events"
PIPELINE = """\
name: bench
event: {id: id, time: at}
fields:
  - {name: carrier, type: string, role: dimension}
  - {name: dep_delay, type: number, role: measure}
"""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int


@dataclass
class Stand:
    folder: Path
    environment: dict[str, str]
    key: str

    @property
    def spool(self) -> Path:
        return self.folder / "home" / "spool" / "bench"

    @contextmanager
    def server(self, kind: str, *, cores: set[int] | None = None) -> Iterator["Server"]:
        """A running server of kind `events` or `echo`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ingest_stand", kind, str(port)], env=self.environment
        )
        try:
            _wait_for(port, process)
            if cores:
                for task in Path(f"/proc/{process.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), cores)
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=10)

    def load(
        self, server: "Server", connections: int, seconds: float, requests: list[bytes]
    ) -> dict[str, Any]:
        """What the load process saw; `cpu_us`: the server's processor time a request."""
        from benchmarks.loadgen import write_requests

        path = self.folder / "requests"
        write_requests(path, requests)
        command = [
            sys.executable,
            "-m",
            "benchmarks.loadgen",
            "127.0.0.1",
            str(server.port),
            str(connections),
        ]
        before = spent_us(server.pid)
        done = subprocess.run([*command, str(seconds), str(path)], check=True, capture_output=True)
        found: dict[str, Any] = json.loads(done.stdout)
        found["cpu_us"] = round((spent_us(server.pid) - before) / max(1, found["answered"]), 1)
        return found


def spent_us(pid: int) -> float:
    """Processor time of a process so far, in microseconds: unlike requests a second it can be compared on a
    machine that does other things too."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system) * 1e6


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("The server of the benchmark did not start.")


@contextmanager
def stand() -> Iterator[Stand]:
    """Everything in a folder of its own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sluiceway-bench-"))
    postgres = EmbeddedPostgres(folder / "pg")
    try:
        postgres.start()
        secret = SecretKey(SECRET.encode())
        database = Database(postgres.url, secret)
        migrate(database, secret)
        apply_pipeline(database, 1, PIPELINE)
        with database.transaction(Role.APP, workspace_id=1) as connection:
            key = create_key(connection, 1, "bench", ["ingest"])
        database.dispose()
        own = {
            "SLUICEWAY_HOME": str(folder / "home"),
            "SLUICEWAY_NODE": "bench",
            "SLUICEWAY_DATABASE_URL": postgres.url,
            "SLUICEWAY_SECRET_KEY": SECRET,
        }
        yield Stand(folder, {**os.environ, **own}, key)
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The least an ASGI application can do with a body: give it back."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def serve(kind: str, port: int) -> None:
    """Run a server until it is told to stop."""
    import uvicorn

    app: Any = echo
    spool = None
    http: Any = "httptools"
    if kind == "events":
        from api.app import create_app
        from api.event_protocol import protocol_for
        from api.events import event_app
        from api.services import ApiServices
        from sluiceway.infra.connect import open_database
        from sluiceway.infra.keys import load_secret_key
        from sluiceway.infra.settings import load_settings
        from sluiceway.ingestion.limits import open_limits
        from sluiceway.ingestion.spool import open_spool

        settings = load_settings()
        key = load_secret_key(settings)
        database = open_database(settings, key)
        spool = open_spool(settings).writer()
        intake = open_limits(settings, database, spool)
        events = event_app(settings, spool, database, intake=intake)
        services = ApiServices(settings=settings, database=database, key=key, spool=spool)
        app = create_app(services, {"ingest"}, events=events, lifespans=[events.lifespan])
        http = protocol_for(events)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, loop="uvloop", http=http,
        access_log=False, server_header=False, date_header=False,
        log_level="warning", timeout_graceful_shutdown=2,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except KeyboardInterrupt:
        pass
    finally:
        if spool is not None:
            spool.close()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
