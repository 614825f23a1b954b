"""The two ends of the platform in a fault test: a sender with a ledger of what was acknowledged, and a
consumer of the live stream that keeps what it was told. Real HTTP; both go on whatever happens in between.
"""

import gzip
import http.client
import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

TIMEOUT_S = 60.0
_AGAIN_S = 0.02
POISON = "poison-"
"""How the ids of events begin that no pipeline can load."""
BEGIN = datetime(2026, 10, 30, tzinfo=UTC)  # three days from here lie in two months

MakeEvent = Callable[[str, random.Random], dict[str, Any]]


def order_event(event_id: str, chance: random.Random) -> dict[str, Any]:
    """An event of `tests.support.loading.ORDERS`, in one of a hundred minutes of three days."""
    at = BEGIN + timedelta(minutes=43 * chance.randrange(100), seconds=chance.randrange(60))
    return {
        "id": event_id,
        "at": at.isoformat(),
        "country": chance.choice(["CH", "DE", "FR", None]),
        "amount": chance.randrange(-400, 4000) / 4,
        "items": chance.randrange(9),
    }


@dataclass
class Ledger:
    """What a sender knows. `acknowledged`: ids in requests that were answered 202, with how often; `sent`:
    ids that went out at all; `position`: the newest (segment, offset) an answer named; `poisonous`: how many
    acknowledged events cannot become rows."""

    acknowledged: dict[str, int] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    requests: int = 0
    refused: int = 0
    broken: int = 0
    poisonous: int = 0
    position: tuple[int, int] = (0, 0)

    def absorb(self, other: "Ledger") -> None:
        for key, count in other.acknowledged.items():
            self.acknowledged[key] = self.acknowledged.get(key, 0) + count
        self.sent |= other.sent
        self.requests += other.requests
        self.refused += other.refused
        self.broken += other.broken
        self.poisonous += other.poisonous
        self.position = max(self.position, other.position)


class Sender(threading.Thread):
    """Posts batches of all shapes; after a broken connection or a refusal the same bytes again, seldom never.

    Now and then it sends again, in another order, what was acknowledged. After `plenty` ids it sends single
    events: the load goes on, but a seed stays small. `gives_up`: how often a failure is the last try.
    """

    def __init__(
        self,
        port: int,
        key: str,
        name: str,
        *,
        pipeline: str = "orders",
        make: MakeEvent = order_event,
        sizes: tuple[int, ...] = (1, 1, 2, 5, 20, 60),
        pause_s: float = 0.03,
        gives_up: float = 0.1,
        plenty: int = 250,
        again: float = 0.15,
    ) -> None:
        super().__init__(name=f"sender-{name}", daemon=True)
        self.ledger = Ledger()
        self.error: BaseException | None = None
        self._address = ("127.0.0.1", port)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._path = f"/v1/pipelines/{pipeline}/events"
        self._name, self._make, self._sizes, self._pause_s = name, make, sizes, pause_s
        self._gives_up, self._plenty, self._again = gives_up, plenty, again
        self._chance = random.Random(name)
        self._ending = threading.Event()
        self._abandoned = False
        self._connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._ending.is_set():
                busy = len(self.ledger.acknowledged) < self._plenty
                count = self._chance.choice(self._sizes) if busy else 1
                events = [self._make(f"{self._name}-{number + i}", self._chance) for i in range(count)]
                number += count
                again = self._chance.random() < self._again
                self._deliver(events)
                if again:
                    self._chance.shuffle(events)
                    self._deliver(events[: self._chance.randrange(1, len(events) + 1)])
                self._ending.wait(self._chance.random() * (self._pause_s if busy else 4 * self._pause_s))
        except BaseException as error:
            self.error = error
        finally:
            self._close()

    def give_up(self) -> None:
        """Stop soon, whatever is under way; to be called in any case."""
        self._ending.set()
        self._abandoned = True

    def finish(self) -> Ledger:
        """Stop after what is under way was acknowledged; raises what went wrong."""
        self._ending.set()
        self.join(TIMEOUT_S * 2)
        assert not self.is_alive(), "the sender was never answered"
        if self.error is not None:
            raise self.error
        return self.ledger

    def _deliver(self, events: list[dict[str, Any]]) -> None:
        """Until acknowledged; sometimes given up after a failure: then it may be there or not."""
        body, headers = _encode(events, self._chance)
        self.ledger.sent.update(event["id"] for event in events)
        ids = [event["id"] for event in events if not event["id"].startswith(POISON)]
        poisonous = len(events) - len(ids)
        while True:
            answer = self._post(body, headers)
            if answer is not None:
                for key in ids:
                    self.ledger.acknowledged[key] = self.ledger.acknowledged.get(key, 0) + 1
                if "position" in answer:
                    segment, offset = answer["position"].rsplit("-", 2)[1:]
                    self.ledger.position = max(self.ledger.position, (int(segment), int(offset)))
                self.ledger.poisonous += poisonous
                return
            if self._abandoned or self._chance.random() < self._gives_up:
                return
            time.sleep(_AGAIN_S)

    def _post(self, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        """The answer's document if it was 202; None if there was no answer, or one that says: later."""
        self.ledger.requests += 1
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self._address, timeout=TIMEOUT_S)
            self._connection.request("POST", self._path, body, self._headers | headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.ledger.broken += 1
            self._close()
            return None
        if response.status == 202:
            found: dict[str, Any] = json.loads(text)
            return found
        assert response.status in (429, 503), f"{response.status}: {text[:500]!r}"
        assert int(response.headers["Retry-After"]) >= 0
        self.ledger.refused += 1
        return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _encode(events: list[dict[str, Any]], chance: random.Random) -> tuple[bytes, dict[str, str]]:
    """A body in one of the forms that are taken, and the headers that say which."""
    media_type = "application/json"
    if len(events) == 1 and chance.random() < 0.5:
        body = json.dumps(events[0]).encode()
    elif chance.random() < 0.3:
        body = json.dumps(events).encode()
    else:
        body = b"\n".join(json.dumps(event).encode() for event in events)
        media_type = "application/x-ndjson"
    if chance.random() < 0.3:
        return gzip.compress(body), {"Content-Type": media_type, "Content-Encoding": "gzip"}
    return body, {"Content-Type": media_type}


class Consumer(threading.Thread):
    """Follows a pipeline's rows; after a break it goes on from the last id it has. `seen`: seq → event id."""

    def __init__(self, port: int, key: str, pipeline: str = "orders") -> None:
        super().__init__(name="consumer", daemon=True)
        self.seen: dict[int, str] = {}
        self.twice = 0
        self.resets: list[str] = []
        self.connections = 0
        self.error: BaseException | None = None
        self._last = 0
        self._port, self._key, self._path = port, key, f"/v1/pipelines/{pipeline}/stream"
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def last_seq(self) -> int:
        return self._last

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                with suppress(OSError, http.client.HTTPException):
                    self._follow()
                self._ending.wait(_AGAIN_S)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        self._ending.set()
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        self.join(TIMEOUT_S)
        if self.error is not None:
            raise self.error

    def _follow(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.connect()
            with self._lock:
                self._socket = connection.sock
            if self._ending.is_set():
                return
            headers = {"Authorization": f"Bearer {self._key}", "Last-Event-ID": str(self._last)}
            connection.request("GET", self._path, headers=headers)
            response = connection.getresponse()
            assert response.status in (200, 503), response.read()
            if response.status == 200:
                self.connections += 1
                self._read(response)
        finally:
            with self._lock:
                self._socket = None
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        event: dict[str, str] = {}
        while line := response.readline():
            text = line.decode().rstrip("\n")
            name, _, value = text.partition(": ")
            if text:
                event[name] = value
                continue
            if event.get("event") == "row":
                self._row(int(event["id"]), json.loads(event["data"])["event_id"])
            elif event.get("event") == "reset":
                self.resets.append(event["data"])
            event = {}

    def _row(self, seq: int, event_id: str) -> None:
        if seq in self.seen:
            self.twice += 1
        self.seen[seq] = event_id
        self._last = max(self._last, seq)
