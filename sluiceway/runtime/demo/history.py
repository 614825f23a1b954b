"""The demo's past: the year until yesterday, the newest first, in bodies of one megabyte."""

import logging
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from sluiceway.runtime.demo import github
from sluiceway.runtime.demo.calendar import year_until
from sluiceway.runtime.demo.client import JSON, EventClient
from sluiceway.runtime.demo.flights import BODY_BYTES, Event, NewYork
from sluiceway.runtime.demo.state import DemoState

log = logging.getLogger(__name__)

FLIGHTS = "nyc-flights"
WEATHER = "nyc-weather"
GITHUB = "github-webhooks"
FIRST_DAYS = 14  # what a dashboard shows at first: flights, then weather, before the rest of the year


def load_year(
    client: EventClient,
    data: NewYork,
    state: DemoState,
    yesterday: date,
    after_recent: Callable[[], None] = lambda: None,
) -> int:
    """Send what was not sent of the 364 days until `yesterday`; returns how many events that was.

    `after_recent` is called between the last two weeks and the rest, if there was anything to send: the
    loader takes what waits as one batch, and the first charts should not wait for the whole year.
    """
    days = year_until(yesterday)
    begun = time.monotonic()
    count = _send_days(client, FLIGHTS, days[:FIRST_DAYS], data.flights, state)
    count += _send_days(client, WEATHER, days[:FIRST_DAYS], data.weather, state)
    if count:
        after_recent()
    count += _send_days(client, FLIGHTS, days[FIRST_DAYS:], data.flights, state)
    count += _send_days(client, WEATHER, days[FIRST_DAYS:], data.weather, state)
    if count:
        log.info("the year until %s is sent: %d events in %.1f s", yesterday, count, time.monotonic() - begun)
    return count


def send_deliveries(client: EventClient, folder: Path, state: DemoState) -> int:
    """Send GitHub's example payloads that were not sent yet, as single webhooks; returns how many."""
    count = 0
    for number, delivery in enumerate(github.deliveries(folder), start=1):
        if number <= state.deliveries:
            continue
        client.send(GITHUB, delivery.body, JSON, delivery.headers)
        state.deliveries = number
        count += 1
    if count:
        state.save()
    return count


def _send_days(
    client: EventClient,
    pipeline: str,
    days: list[date],
    events_of: Callable[[date], list[Event]],
    state: DemoState,
) -> int:
    """Days are noted as sent when the body with their last line was accepted."""
    lines: list[bytes] = []
    whole: set[date] = set()
    size = count = 0

    def flush() -> None:
        nonlocal size
        if lines:
            client.send(pipeline, b"".join(lines))
            lines.clear()
            size = 0
        if whole:
            state.note(pipeline, whole)
            whole.clear()

    for day in days:
        if state.sent(pipeline, day):
            continue
        for event in events_of(day):
            line = event.line()
            if size + len(line) > BODY_BYTES:
                flush()
            lines.append(line)
            size += len(line)
            count += 1
        whole.add(day)
    flush()
    return count
