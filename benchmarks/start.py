"""`start`: `make up` from nothing to the first live chart in a browser; starting again; memory when idle.

From nothing means a fresh copy of the repository, no virtual environment, an empty data folder. The limit is
what nobody can save: making the environment and installing the packages, measured apart in the same run.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil

from sluiceway.runtime.preflight import free_port

ROOT = Path(__file__).parents[1]
FIRST_LIMIT_S = 120.0
AGAIN_LIMIT_S = 12.0
MEMORY_LIMIT_MB = 1800.0
SETTLE_S = 30.0
SAMPLES, SAMPLE_EVERY_S = 9, 10.0
_IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".sluiceway", "node_modules", "dist", "__pycache__", "target", "*.egg-info", ".cache"
)


@dataclass
class Place:
    """A copy of the repository with ports and a data folder of its own."""

    folder: Path
    port: int
    dagster_port: int

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICEWAY_", "VIRTUAL_ENV"))}
        # The interpreter that a newcomer has, not the one of this environment.
        python = shutil.which("python3", path=_path_without(kept.get("PATH", ""), Path(sys.prefix) / "bin"))
        return kept | {
            "PYTHON": python or sys.executable,
            "PATH": _path_without(kept.get("PATH", ""), Path(sys.prefix) / "bin"),
            "SLUICEWAY_HOME": str(self.home),
            "SLUICEWAY_PORT": str(self.port),
            "SLUICEWAY_DAGSTER_PORT": str(self.dagster_port),
        }

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    def up(self) -> "subprocess.Popen[bytes]":
        log = (self.folder / "up.log").open("wb")
        return subprocess.Popen(
            ["make", "up"], cwd=self.folder / "repository", env=self.environment, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def said(self) -> str:
        return (self.folder / "up.log").read_text(errors="replace")

    def pids(self) -> dict[str, int]:
        path = self.home / "run" / "processes.json"
        found: dict[str, int] = orjson.loads(path.read_bytes()) if path.exists() else {}
        return found

    def stop(self, process: "subprocess.Popen[bytes]") -> float:
        """Seconds that stopping took."""
        begun = time.monotonic()
        supervisor = self.pids().get("supervisor")
        if supervisor is not None:
            os.kill(supervisor, signal.SIGTERM)
        process.wait(timeout=60)
        return time.monotonic() - begun


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sluiceway-start-") as name:
        place = Place(Path(name), free_port(), free_port())
        shutil.copytree(ROOT, place.folder / "repository", ignore=_IGNORED)
        process = place.up()
        begun = time.monotonic()
        try:
            web_s = _until(place, process, lambda: _ready(place), begun)
            numbers_s = _until(place, process, lambda: _has_numbers(place), begun)
            chart_s = _until(place, process, lambda: _shows_chart(place), begun)
            _until(place, process, lambda: "Dagster answers" in place.said(), begun)
            memory = _idle_memory(place)
            stop_s = place.stop(process)
            process = place.up()
            again = time.monotonic()
            again_s = _until(
                place, process, lambda: "Sluiceway runs" in place.said() and _ready(place), again
            )
        finally:
            if process.poll() is None:
                place.stop(process)
        install_s = _install_alone(place)
    return {
        "ours": round(chart_s, 1),
        "limit": round(install_s, 1),
        "peer": None,
        "unit": "s from nothing to the first chart",
        "lower_is_better": True,
        "detail": {
            "limit": "virtual environment and packages alone",
            "peer": "what it takes the place of comes in containers, which do not run here",
            "web_answers_s": round(web_s, 1),
            "numbers_by_api_s": round(numbers_s, 1),
            "first_chart_s": round(chart_s, 1),
            "first_chart_allowed_s": FIRST_LIMIT_S,
            "again_s": round(again_s, 1),
            "again_allowed_s": AGAIN_LIMIT_S,
            "stop_s": round(stop_s, 1),
            "idle_memory_mb": memory,
            "idle_memory_allowed_mb": MEMORY_LIMIT_MB,
        },
    }


def _path_without(path: str, folder: Path) -> str:
    return os.pathsep.join(part for part in path.split(os.pathsep) if Path(part) != folder)


def _until(
    place: Place, process: "subprocess.Popen[bytes]", condition: Callable[[], bool], begun: float
) -> float:
    """Seconds from `begun` until `condition`. Raises `RuntimeError` with what was said."""
    while not condition():
        if process.poll() is not None or time.monotonic() - begun > 400:
            raise RuntimeError(f"the platform did not come up: {place.said()[-2000:]}")
        time.sleep(0.25)
    return time.monotonic() - begun


def _ready(place: Place) -> bool:
    try:
        return httpx.get(f"{place.base}/readyz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _session(place: Place) -> httpx.Client:
    """Signed in with the demo's account as it was printed."""
    email, password = next(iter(orjson.loads((place.home / "sign-in.json").read_bytes()).items()))
    client = httpx.Client(
        base_url=place.base, headers={"X-Sluiceway-Request": "1", "Origin": place.base}, timeout=10
    )
    client.post("/v1/session", json={"email": email, "password": password}).raise_for_status()
    return client


def _has_numbers(place: Place) -> bool:
    query = {"pipeline": "nyc-flights", "measures": [{"agg": "count", "as": "n"}], "time": {"last": "7d"}}
    try:
        with contextlib.closing(_session(place)) as client:
            answer = client.post("/v1/query", json=query)
    except httpx.HTTPError:
        return False
    return bool(answer.status_code == 200 and answer.json()["rows"] and answer.json()["rows"][0][0])


def _shows_chart(place: Place) -> bool:
    """Whether a browser that opens the flights dashboard sees lines drawn."""
    from playwright.sync_api import Error, sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with contextlib.closing(_session(place)) as client:
        cookie = client.cookies["sluiceway_session"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            context = browser.new_context(viewport={"width": 1400, "height": 900})
            context.add_cookies([{"name": "sluiceway_session", "value": cookie, "url": place.base}])
            page = context.new_page()
            page.goto(f"{place.base}/dashboard?slug=flights-operations")
            page.wait_for_selector("svg.main-svg .trace path", state="attached", timeout=30_000)
        except Error:
            return False
        finally:
            browser.close()
    return True


def _idle_memory(place: Place) -> dict[str, float]:
    """The smallest of several looks: between two of Dagster's runs, each of which is a process of its own."""
    time.sleep(SETTLE_S)
    looks = []
    for _ in range(SAMPLES):
        looks.append(_memory(place))
        time.sleep(SAMPLE_EVERY_S)
    return min(looks, key=lambda look: look["together"])


def _memory(place: Place) -> dict[str, float]:
    """Proportional set size by process, in MB, and the sum."""
    found: dict[str, float] = {}
    for name, pid in place.pids().items():
        leader = psutil.Process(pid)
        family = [leader] if name == "supervisor" else [leader, *leader.children(recursive=True)]
        found[name] = round(sum(_pss(process) for process in family) / 2**20, 1)
    found["together"] = round(sum(found.values()), 1)
    return found


def _pss(process: psutil.Process) -> int:
    try:
        size: int = process.memory_full_info().pss
    except psutil.Error:
        return 0
    return size


def _install_alone(place: Place) -> float:
    """Seconds for `make setup` in a second fresh copy, with caches as warm as the first run found them."""
    shutil.copytree(ROOT, place.folder / "second", ignore=_IGNORED)
    begun = time.monotonic()
    subprocess.run(
        ["make", "setup"], cwd=place.folder / "second", env=place.environment, check=True, capture_output=True
    )
    return time.monotonic() - begun


if __name__ == "__main__":
    sys.stdout.write(
        re.sub(r"\n\s*\n", "\n", orjson.dumps(run(), option=orjson.OPT_INDENT_2).decode()) + "\n"
    )
