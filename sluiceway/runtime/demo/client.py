"""Sends events to the real event route: keeps the connection, waits when told to, tries again."""

import http.client
import logging
import threading
import time
import urllib.parse
from collections.abc import Mapping

from sluiceway.kit.errors import Unavailable

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 10.0
NDJSON = "application/x-ndjson"
JSON = "application/json"


class Refused(Unavailable):
    code = "demo_refused"
    title = "The event route refused the demo's events"
    retryable = False


class Stopped(Exception):
    """The process is to end."""


class EventClient:
    """One connection to `url` with one ingest key. Not for several threads."""

    def __init__(self, url: str, key: str, stop: threading.Event) -> None:
        self._parts = urllib.parse.urlsplit(url)
        self._key = key
        self._stop = stop
        self._connection: http.client.HTTPConnection | None = None

    def send(
        self, pipeline: str, body: bytes, form: str = NDJSON, headers: Mapping[str, str] | None = None
    ) -> int:
        """POST until it is accepted; returns the status: 202, or 400 for a body that cannot be read.

        Raises `Refused` for an answer that will not change, `Stopped` if asked to end meanwhile.
        """
        pause_s = 0.5
        while True:
            status, wait_s, answer = self._post(pipeline, body, form, headers or {})
            if status in (202, 400):
                return status
            if status not in (0, 429, 503) and status < 500:
                raise Refused(f"The event route answered {status} for {pipeline}: {answer}")
            if self._stop.wait(wait_s or pause_s):
                raise Stopped
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def _post(
        self, pipeline: str, body: bytes, form: str, headers: Mapping[str, str]
    ) -> tuple[int, float | None, str]:
        """Status (0: no answer), seconds to wait if it says so, and the answer's beginning."""
        sent = {"Authorization": f"Bearer {self._key}", **headers, "Content-Type": form}
        try:
            connection = self._connect()
            connection.request("POST", f"/v1/pipelines/{pipeline}/events", body, sent)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return 0, None, str(error)
        after = response.getheader("Retry-After", "")
        wait_s = float(after) if after.isdigit() else None
        return response.status, wait_s, answer[:300].decode(errors="replace")

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            secure = self._parts.scheme == "https"
            maker = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = maker(self._parts.hostname or "localhost", self._parts.port, timeout=30)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def pause(self, seconds: float) -> None:
        """Wait. Raises `Stopped` if asked to end meanwhile."""
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped

    def wait_until(self, monotonic_s: float) -> None:
        """Wait until a moment of the monotonic clock."""
        self.pause(monotonic_s - time.monotonic())
