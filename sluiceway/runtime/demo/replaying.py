"""The demo's present: today's flights on a clock that runs faster, so that something always moves.

First what today has had so far, from midnight in New York to now: each flight is sent when the demo's clock
reaches its scheduled departure. Then two things at once: each further flight of today at its real time, and
rounds over the last 24 hours, in which a quarter of a day's flights, taken from other weeks, come in late
(with ids of their own; all of them would make today's numbers too tall).
"""

import logging
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import count
from pathlib import Path

from sluiceway.infra.clock import Clock
from sluiceway.runtime.demo import github
from sluiceway.runtime.demo.calendar import local_today, start_of
from sluiceway.runtime.demo.client import JSON, EventClient
from sluiceway.runtime.demo.flights import Event, NewYork
from sluiceway.runtime.demo.history import FLIGHTS, GITHUB, WEATHER
from sluiceway.runtime.demo.oddities import disturb
from sluiceway.runtime.demo.state import DemoState

log = logging.getLogger(__name__)

DAY = timedelta(days=1)
ONE_IN = 4
DELIVERY_EVERY_S = 20.0
QUIET_S = 8.0
_LOOK_EVERY_S = 1.0  # so often the real clock is looked at while a round is under way
_SAVE_EVERY_S = 5.0
EventsOf = Callable[[date], list[Event]]


class Replay:
    """Sends until the client is told to stop. `speed`: how many times faster than the clock."""

    def __init__(
        self, client: EventClient, data: NewYork, state: DemoState, clock: Clock, speed: int, payloads: Path
    ) -> None:
        self._client = client
        self._flights: EventsOf = lru_cache(maxsize=4)(data.flights)
        self._weather: EventsOf = lru_cache(maxsize=4)(data.weather)
        self._state = state
        self._clock = clock
        self._speed = speed
        self._payloads = payloads
        self._deliveries: Iterator[github.Delivery] = iter(())
        self._delivery_due = time.monotonic() + DELIVERY_EVERY_S
        self._save_due = 0.0
        self._sent = 0

    def run(self) -> None:
        """Raises `Stopped` when asked to end, `Refused` if the event route will not have the events."""
        self._catch_up()
        for number in count(self._state.rounds + 1):
            self._round(number)
            self._state.rounds = number
            self._state.save()

    def _catch_up(self) -> None:
        """Today's flights so far that were not sent yet, at `speed`."""
        now = self._clock.now()
        since = self._since(now)
        due = between(self._flights, since, now)
        log.info("replaying %d flights of today at %d times the clock's speed", len(due), self._speed)
        for event, moment in zip(due, schedule([e.at for e in due], self._speed), strict=True):
            self._client.wait_until(moment)
            self._send(event)
            self._reach(event.at)
        self._reach(now)

    def _round(self, number: int) -> None:
        """One pass of the faster clock over the last 24 hours, and what really comes due meanwhile."""
        due = round_of(self._flights, self._clock.now(), number)
        for event, moment in zip(due, schedule([e.at for e in due], self._speed), strict=True):
            self._live_until(moment)
            self._send(event)
        self._live_until(time.monotonic() + QUIET_S)

    def _live_until(self, due_s: float) -> None:
        """Wait for a moment of the monotonic clock; send what comes due on the real one."""
        while True:
            now = self._clock.now()
            for event in between(self._flights, self._since(now), now):
                self._send(event)
            self._reach(now)
            self._deliver(now)
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return
            self._client.pause(min(left_s, _LOOK_EVERY_S))

    def _since(self, now: datetime) -> datetime:
        """Until when everything was sent: today's midnight where the history before it was just loaded."""
        midnight = start_of(local_today(now))
        until = self._state.until
        return midnight if until is None or until < midnight - DAY else until

    def _send(self, event: Event) -> None:
        self._sent += 1
        for body in disturb(self._sent, event):
            self._client.send(FLIGHTS, body)

    def _reach(self, at: datetime) -> None:
        """Note that all flights up to `at` are sent; send the weather up to then."""
        since = self._since(at)
        for observation in between(self._weather, since, at):
            self._client.send(WEATHER, observation.line())
        ended = local_today(since)
        self._state.until = at
        if ended != local_today(at):
            self._state.note(FLIGHTS, {ended})
            self._state.note(WEATHER, {ended})
        elif time.monotonic() >= self._save_due:
            self._save_due = time.monotonic() + _SAVE_EVERY_S
            self._state.save()

    def _deliver(self, now: datetime) -> None:
        """One of GitHub's payloads now and then, as a new delivery."""
        if time.monotonic() < self._delivery_due:
            return
        self._delivery_due = time.monotonic() + DELIVERY_EVERY_S
        delivery = next(self._deliveries, None)
        if delivery is None:
            self._deliveries = github.deliveries(self._payloads)
            delivery = next(self._deliveries, None)
        if delivery is not None:
            known = delivery.headers["x-github-delivery"]
            fresh = f"{known[:24]}{int(now.timestamp()) & 0xFFFFFFFFFFFF:012x}"
            self._client.send(GITHUB, delivery.body, JSON, {**delivery.headers, "x-github-delivery": fresh})


def between(events_of: EventsOf, since: datetime, until: datetime) -> list[Event]:
    """The events with since < time <= until, in order."""
    found: list[Event] = []
    day, last = local_today(since), local_today(until)
    while day <= last:
        found += [event for event in events_of(day) if since < event.at <= until]
        day += DAY
    return sorted(found, key=lambda event: event.at)


def round_of(events_of: EventsOf, now: datetime, number: int) -> list[Event]:
    """A round's flights over the 24 hours before `now`, in order: one in `ONE_IN`.

    Round n takes the flights of n weeks before, moved to these days; their ids name the round.
    """
    weeks = timedelta(weeks=number % 51 + 1)
    found = []
    for event in between(events_of, now - DAY - weeks, now - weeks):
        identity = f"{event.document['id']}/round{number}"
        if zlib.crc32(identity.encode()) % ONE_IN:
            continue
        at = event.at + weeks
        document = {**event.document, "id": identity, "scheduled": at.isoformat().replace("+00:00", "Z")}
        found.append(Event(at, document))
    return found


def schedule(times: list[datetime], speed: int) -> Iterator[float]:
    """When (monotonic seconds) to send what belongs to `times`: the first now, gaps divided by `speed`.

    A gap never lasts longer than `QUIET_S`: at night, when nothing flies, the clock jumps ahead.
    """
    moment = time.monotonic()
    for before, at in zip(times[:1] + times, times, strict=False):
        moment += min(QUIET_S, (at - before).total_seconds() / speed)
        yield moment
