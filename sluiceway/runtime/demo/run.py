"""`sluiceway demo`: waits for the platform, loads the year, then replays today until told to stop."""

import logging
import time
from datetime import timedelta

import sqlalchemy as sa

from sluiceway.infra.clock import SystemClock
from sluiceway.infra.connect import open_database
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.accounts import ensure_key
from sluiceway.runtime.demo.calendar import local_today
from sluiceway.runtime.demo.client import EventClient, Stopped
from sluiceway.runtime.demo.flights import NewYork
from sluiceway.runtime.demo.history import FLIGHTS, GITHUB, WEATHER, load_year, send_deliveries
from sluiceway.runtime.demo.install import payloads_folder
from sluiceway.runtime.demo.replaying import Replay
from sluiceway.runtime.demo.state import DemoState
from sluiceway.runtime.processes.entry import stop_event

log = logging.getLogger(__name__)

_PATIENCE_S = 60.0


def run_demo(settings: Settings, *, speed: int | None = None, load_only: bool = False) -> int:
    """Load what is missing of the year, then (unless `load_only`) replay. Returns the exit code.

    Raises `DemoDataMissing`, `Refused`.
    """
    stop = stop_event()
    folder = settings.home / "demo"
    database = open_database(settings, pool_size=1)
    key = ensure_key(database, settings.home / "keys" / "demo", "the demo", [FLIGHTS, WEATHER, GITHUB])
    state = DemoState.load(folder / "state.json")
    if _loaded(database) == 0:  # what was noted as sent belonged to another database
        state = DemoState(folder / "state.json")
    client = EventClient(settings.internal_url, key, stop)
    data = NewYork()
    payloads = payloads_folder(settings)
    clock = SystemClock()
    yesterday = local_today(clock.now()) - timedelta(days=1)
    try:
        load_year(client, data, state, yesterday, lambda: _until_loaded(database, client))
        database.dispose()
        send_deliveries(client, payloads, state)
        if not load_only:
            Replay(client, data, state, clock, speed or settings.demo_speed, payloads).run()
    except Stopped:
        pass
    finally:
        state.save()
        client.close()
    return 0


def _until_loaded(database: Database, client: EventClient) -> None:
    """Wait until flights are in silver, at most `_PATIENCE_S`."""
    deadline = time.monotonic() + _PATIENCE_S
    while _loaded(database) == 0 and time.monotonic() < deadline:
        client.pause(0.5)


def _loaded(database: Database) -> int:
    """How many flights the database has ever loaded."""
    with database.transaction(Role.APP, workspace_id=1) as connection:
        row = connection.execute(
            sa.text(
                "SELECT s.events FROM app.pipeline_state s JOIN app.pipelines p ON p.id = s.pipeline_id"
                " WHERE p.slug = :slug AND p.workspace_id = 1"
            ),
            {"slug": FLIGHTS},
        ).first()
    return 0 if row is None else int(row.events)
