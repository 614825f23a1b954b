"""`latency`: one event from POST to an SSE client and to the screen, while 200 events a second flow.

The platform as `sluiceway up` starts it (without Dagster), a pipeline of its own, a real browser. Ours is the
95th percentile from the moment before the POST to the row's arrival at the SSE client. The limit is what no
design around this database can go below: a commit with NOTIFY heard on another connection of the same server.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg

from sluiceway.runtime.preflight import free_port

FLOW_PER_S = 200
PROBES = 120
SCREEN_PROBES = 40
ALLOWED_MS = 250.0
PIPELINE = """
kind: Pipeline
name: latency
event: {id: id, time: at}
fields:
  - {name: kind, type: string, role: dimension}
  - {name: value, type: number, role: measure}
"""
DASHBOARD = """
kind: Dashboard
name: latency
title: Latency
time: {last: 1h}
widgets:
  - id: probes
    title: Probes
    type: stat
    query:
      pipeline: latency
      measures: [{agg: count, as: n}]
      filters: [{field: kind, op: eq, value: screen}]
    layout: {x: 0, y: 0, w: 3, h: 3}
"""
_WATCH = """() => {
  const host = [...document.querySelectorAll('*')].find((e) => e.shadowRoot?.querySelector('.grid-stack'));
  const number = host.shadowRoot.querySelector('.stat-number');
  window.__seen = [];
  new MutationObserver(() => window.__seen.push([number.textContent, Date.now()]))
    .observe(number, { childList: true, characterData: true, subtree: true });
}"""


@dataclass
class Stand:
    """A running platform, its key and a client that is signed in."""

    home: Path
    port: int
    environment: dict[str, str]
    key: str = ""
    arrivals: dict[str, float] = field(default_factory=dict)
    """When each probe's row reached the SSE client, by event id (monotonic seconds)."""

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    def command(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sluiceway.runtime.cli", *arguments],
            env=self.environment, input=stdin, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def sender(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/x-ndjson"}
        return httpx.Client(base_url=self.base, headers=headers, timeout=20)

    def session(self) -> httpx.Client:
        email, password = next(iter(orjson.loads((self.home / "sign-in.json").read_bytes()).items()))
        client = httpx.Client(
            base_url=self.base, headers={"X-Sluiceway-Request": "1", "Origin": self.base}, timeout=10
        )
        client.post("/v1/session", json={"email": email, "password": password}).raise_for_status()
        return client


def run() -> dict[str, Any]:
    with platform() as stand, flowing(stand):
        with contextlib.closing(stand.session()) as session:
            token = session.post("/v1/stream-tokens", json={}).raise_for_status().json()["token"]
            cookie = session.cookies["sluiceway_session"]
        to_client, accepted = _to_client(stand, token)
        to_screen = _to_screen(stand, cookie)
        floor = _floor(stand.command("db-url"))
    return {
        "ours": round(_p95(to_client), 1),
        "limit": round(_p95(floor), 2),
        "peer": None,
        "unit": "ms, p95 from POST to SSE client",
        "lower_is_better": True,
        "detail": {
            "flow_per_s": FLOW_PER_S,
            "allowed_ms": ALLOWED_MS,
            "client_ms": _summary(to_client),
            "accepted_ms": _summary(accepted),
            "screen_ms": _summary(to_screen),
            "limit": "commit with NOTIFY, heard on another connection of the same server",
            "peer": "no other receiver that streams rows after their commit could be installed here",
        },
    }


@contextlib.contextmanager
def platform() -> Iterator[Stand]:
    """`sluiceway up --no-dagster` on a folder of its own, with the pipeline and the dashboard applied."""
    with tempfile.TemporaryDirectory(prefix="sluiceway-latency-") as name:
        home, port = Path(name) / "home", free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLUICEWAY_")}
        stand = Stand(home, port, kept | {"SLUICEWAY_HOME": str(home), "SLUICEWAY_PORT": str(port)})
        log = (Path(name) / "up.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", "sluiceway.runtime.cli", "up", "--no-dagster"],
            env=stand.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 120
            while "Sluiceway runs" not in (Path(name) / "up.log").read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((Path(name) / "up.log").read_text()[-2000:])
                time.sleep(0.2)
            stand.command("apply", "-", stdin=PIPELINE)
            stand.command("apply", "-", stdin=DASHBOARD)
            stand.key = stand.command("key", "create", "--pipeline", "latency", "--scope", "ingest")
            time.sleep(5)  # gold follows the new pipeline; the loader's engine is imported
            yield stand
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            log.close()


@contextlib.contextmanager
def flowing(stand: Stand) -> Iterator[None]:
    """`FLOW_PER_S` events a second, in twenty requests."""
    stop = threading.Event()

    def send() -> None:
        number, begun = 0, time.monotonic()
        with contextlib.closing(stand.sender()) as client:
            for turn in range(1_000_000):
                if stop.wait(max(0.0, begun + turn / 20 - time.monotonic())):
                    return
                lines = [_event(f"flow-{number + i}", "flow") for i in range(FLOW_PER_S // 20)]
                number += len(lines)
                client.post("/v1/pipelines/latency/events", content=b"".join(lines)).raise_for_status()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _event(identity: str, kind: str) -> bytes:
    document = {"id": identity, "at": datetime.now(UTC).isoformat(), "kind": kind, "value": 1.5}
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


def _to_client(stand: Stand, token: str) -> tuple[list[float], list[float]]:
    """Milliseconds of each probe to the SSE client, and to its 202."""
    listening, stop = threading.Event(), threading.Event()
    arrivals: dict[str, float] = {}

    def listen() -> None:
        address = f"{stand.base}/v1/pipelines/latency/stream?token={token}"
        with httpx.stream("GET", address, timeout=30) as response:
            listening.set()
            for line in response.iter_lines():
                if '"probe-' in line:
                    row = orjson.loads(line.removeprefix("data:"))
                    arrivals[_identity(row)] = time.monotonic()
                if stop.is_set():
                    return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    listening.wait(10)
    sent, accepted = {}, []
    with contextlib.closing(stand.sender()) as client:
        for number in range(PROBES):
            identity = f"probe-{number}"
            sent[identity] = time.monotonic()
            client.post("/v1/pipelines/latency/events", content=_event(identity, "probe")).raise_for_status()
            accepted.append(1000 * (time.monotonic() - sent[identity]))
            time.sleep(0.083)
    time.sleep(1.5)
    stop.set()
    thread.join(timeout=10)
    missing = sorted(sent.keys() - arrivals.keys())
    if missing:
        raise RuntimeError(f"{len(missing)} probes did not arrive, for example {missing[0]}")
    return [1000 * (arrivals[i] - at) for i, at in sent.items()], accepted


def _identity(row: dict[str, Any]) -> str:
    return str(row.get("event_id") or row["row"]["event_id"])


def _to_screen(stand: Stand, cookie: str) -> list[float]:
    """Milliseconds of each probe until the stat card's text is the new count."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright, contextlib.closing(stand.sender()) as client:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport={"width": 1200, "height": 700})
        context.add_cookies([{"name": "sluiceway_session", "value": cookie, "url": stand.base}])
        page = context.new_page()
        page.goto(f"{stand.base}/dashboard?slug=latency")
        page.locator(".live[data-state=live]").wait_for(timeout=30_000)
        client.post("/v1/pipelines/latency/events", content=_event("screen-first", "screen"))
        page.locator(".stat-number", has_text="1").wait_for(timeout=30_000)
        page.evaluate(_WATCH)
        sent: dict[str, float] = {}
        for number in range(2, SCREEN_PROBES + 2):
            sent[str(number)] = time.time() * 1000
            client.post("/v1/pipelines/latency/events", content=_event(f"screen-{number}", "screen"))
            page.wait_for_timeout(370)
        page.wait_for_timeout(1500)
        seen: list[tuple[str, float]] = page.evaluate("window.__seen")
        browser.close()
    shown: dict[str, float] = {}
    for text, at in seen:
        shown.setdefault(text, at)
    found = [shown[number] - at for number, at in sent.items() if number in shown]
    if len(found) < SCREEN_PROBES * 0.9:
        raise RuntimeError(
            f"only {len(found)} of {SCREEN_PROBES} changes were seen on the screen: {seen[-5:]}"
        )
    return found


def _floor(url: str, times: int = 200) -> list[float]:
    """Milliseconds from before a commit with NOTIFY until another connection hears it."""
    found: list[float] = []
    with (
        psycopg.connect(url, autocommit=True) as listener,
        psycopg.connect(url, autocommit=True) as speaker,
    ):
        speaker.execute("CREATE TABLE IF NOT EXISTS public.floor (at timestamptz)")
        listener.execute("LISTEN floor")
        for _ in range(times):
            begun = time.monotonic()
            with speaker.transaction():
                speaker.execute("INSERT INTO public.floor VALUES (now())")
                speaker.execute("NOTIFY floor")
            next(listener.notifies(timeout=5, stop_after=1))
            found.append(1000 * (time.monotonic() - begun))
        speaker.execute("DROP TABLE public.floor")
    return found


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "p95": round(_p95(values), 1),
        "max": round(max(values), 1),
    }


if __name__ == "__main__":
    sys.stdout.write(orjson.dumps(run(), option=orjson.OPT_INDENT_2).decode() + "\n")
