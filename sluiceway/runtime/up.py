"""`sluiceway up`: everything from an empty folder to a running platform, then watching it until stopped.

The order is made for the first chart: what does not depend on one another runs side by side (the browser
component is built while the database starts, gold while the loader imports its engine), and Dagster, which
nobody waits for, comes last.
"""

import http.client
import signal
import sys
import time
import urllib.parse

from sluiceway.infra.connect import embedded_server
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import SluicewayError, Unavailable
from sluiceway.runtime.dagster_home import storage_environment
from sluiceway.runtime.environment import REPOSITORY_ROOT, child_environment
from sluiceway.runtime.guard import stop_groups
from sluiceway.runtime.preflight import check_disk, check_ports, hold_home
from sluiceway.runtime.screen import Screen
from sluiceway.runtime.supervisor import LONGEST_DELAY_S, ProcessSpec, Supervisor
from sluiceway.runtime.tasks import Task

READY_TIMEOUT_S = 90.0
DAGSTER_TIMEOUT_S = 180.0


class StartFailed(Unavailable):
    code = "start_failed"
    title = "The platform did not start"


class Stopped(Exception):
    """Someone asked to stop while we were still starting."""


def up(settings: Settings, *, demo: bool, dagster: bool = True, screen: Screen | None = None) -> int:
    """Run the platform until SIGINT or SIGTERM. Returns the exit code.

    Raises `AlreadyRunning`, `PortInUse`, `DiskFull`, `StartFailed`, `EmbeddedServerFailed`.
    """
    screen = screen or Screen()
    with hold_home(settings.home):
        check_ports(settings, dagster=dagster)
        check_disk(settings)
        server = embedded_server(settings) if settings.embedded else None
        environment = child_environment(settings, storage_environment(settings) if dagster else None)
        supervisor = Supervisor(
            settings.home, REPOSITORY_ROOT, environment, screen, log_days=settings.log_days
        )
        try:
            with supervisor:
                platform = Platform(settings, supervisor, server, screen)
                try:
                    platform.start(demo=demo, dagster=dagster)
                    supervisor.run(platform.tend)
                except Stopped:
                    pass
                finally:
                    screen.close()
                    screen.say("Stopping …")
                    platform.stop_tasks()
        finally:
            # The children are gone; whatever happens now, the database must go down in order.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            if server is not None:
                server.stop()
        screen.say("Stopped.")
    return 0


class Platform:
    """The steps of one start, and what has to be tended while it runs."""

    def __init__(
        self, settings: Settings, supervisor: Supervisor, server: EmbeddedPostgres | None, screen: Screen
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._server = server
        self._screen = screen
        self._tasks: list[Task] = []
        self._server_delay_s = 1.0
        self._server_due = 0.0
        self._gold: Task | None = None
        self._dagster: dict[str, tuple[str, ...]] = {}
        self._dagster_since: float | None = None

    def start(self, *, demo: bool, dagster: bool) -> None:
        begun = time.monotonic()
        canvas = self._task("canvas", "dashboards_app.canvas.build", label="browser component")
        if demo:
            self._task("demo-data", "sluiceway.runtime.demo.install")
        if self._server is not None:
            with self._screen.step("embedded PostgreSQL"):
                self._server.start()
            self._supervisor.watch_server(self._server.pid)
        schema = self._wait(self._task("prepare", "sluiceway.runtime.prepare", "schema", *_flag(demo)))
        prepared = schema.result or {}
        self._run("loader")
        gold = self._task("gold", "sluiceway.runtime.prepare", "gold")
        self._wait(canvas)
        self._run("web")
        self._wait_for_web()
        self._run("worker")
        if demo:
            self._supervisor.start(ProcessSpec("demo", _module("sluiceway.runtime.demo"), once=True))
        self._greet(prepared.get("sign_in"), time.monotonic() - begun, dagster=dagster)
        # Queries answer from silver until gold is there; Dagster's assets are made from what dbt leaves.
        self._gold = gold
        if dagster:
            self._dagster = {name: tuple(command) for name, command in prepared.get("dagster", {}).items()}

    def tend(self) -> None:
        """Bring the database back if it died; start Dagster after gold is built; say when it answers."""
        now = time.monotonic()
        if self._server is not None and now >= self._server_due and not self._server.running:
            self._revive_server(now)
        if self._gold is not None and not self._gold.running:
            if self._gold.error is not None:
                self._screen.warn(f"{self._gold.error} Queries answer from silver meanwhile.")
            self._gold = None
            self._start_dagster(now)
        if self._dagster_since is not None and self._dagster_answers(now):
            self._screen.say(f"[green]✓[/] Dagster answers at {self._settings.dagster_url}")
            self._dagster_since = None

    def stop_tasks(self) -> None:
        groups = {task.process.pid for task in self._tasks if task.running}
        if groups:
            stop_groups(groups, 1.0)

    def _start_dagster(self, now: float) -> None:
        for name, command in self._dagster.items():
            self._supervisor.start(ProcessSpec(name, command))
        if self._dagster:
            self._dagster_since = now

    def _revive_server(self, now: float) -> None:
        assert self._server is not None
        self._screen.warn("PostgreSQL stopped; starting it again.")
        try:
            self._server.start()
        except SluicewayError as error:
            self._server_due = now + self._server_delay_s
            self._server_delay_s = min(LONGEST_DELAY_S, self._server_delay_s * 2)
            self._screen.warn(f"{error.detail} Trying again in {self._server_due - now:.0f} s.")
        else:
            self._server_delay_s, self._server_due = 1.0, 0.0
            self._supervisor.watch_server(self._server.pid)

    def _task(self, name: str, module: str, *arguments: str, label: str = "") -> Task:
        task = Task(
            name, (*_module(module), *arguments), logs=self._supervisor.logs, cwd=REPOSITORY_ROOT,
            environment=child_environment(self._settings), screen=self._screen, label=label,
        )  # fmt: skip
        self._tasks.append(task)
        self._supervisor.guard_also(task.process.pid)
        return task

    def _wait(self, task: Task, *, needed: bool = True) -> Task:
        """Wait for a helper while the processes are watched. Raises `StartFailed` if it was needed."""
        while task.running:
            self._pause(0.1)
        if task.error is not None:
            if needed:
                raise StartFailed(task.error)
            self._screen.warn(task.error)
        return task

    def _pause(self, seconds: float) -> None:
        if self._supervisor.stopping.wait(seconds):
            raise Stopped
        self._supervisor.turn()

    def _run(self, name: str) -> None:
        self._supervisor.start(ProcessSpec(name, _module(f"sluiceway.runtime.processes.{name}")))

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        with self._screen.step("web"):
            while not answers(f"{self._settings.internal_url}/readyz"):
                if time.monotonic() > deadline:
                    raise StartFailed(
                        f"The web process did not answer within {READY_TIMEOUT_S:.0f} s; "
                        f"its log: {self._supervisor.logs / 'web.log'}"
                    )
                self._pause(0.1)

    def _dagster_answers(self, now: float) -> bool:
        if answers(f"{self._settings.dagster_url}/server_info"):
            return True
        if self._dagster_since is not None and now - self._dagster_since > DAGSTER_TIMEOUT_S:
            self._screen.warn(f"Dagster does not answer yet; its logs: {self._supervisor.logs}/dagster-*.log")
            self._dagster_since = None
        return False

    def _greet(self, sign_in: "list[str] | None", took_s: float, *, dagster: bool) -> None:
        say = self._screen.say
        say("")
        say(f"[bold]Sluiceway runs[/] (after {took_s:.1f} s)")
        say(f"  App and API   [bold]{self._settings.public_url}[/]")
        if dagster:
            say(f"  Dagster       {self._settings.dagster_url}  (ready in a moment)")
        if sign_in:
            say(f"  Sign in       {sign_in[0]}  [bold]{sign_in[1]}[/]")
        say(f"  Data and logs {self._settings.home}")
        say("  Ctrl-C stops it.")
        say("")


def answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a GET of `url` gets a 2xx."""
    parts = urllib.parse.urlsplit(url)
    maker = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = maker(parts.hostname or "localhost", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


def _flag(demo: bool) -> tuple[str, ...]:
    return ("--demo",) if demo else ()
