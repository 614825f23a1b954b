"""A sender, a real spool and the bronze writer in threads, in front of a lake that a fault test breaks."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from sluiceway.infra.settings import Settings
from sluiceway.ingestion.contracts import Form, Position
from sluiceway.ingestion.errors import SpoolFull
from sluiceway.ingestion.spool import Spool
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.split import split
from tests.support.bronze import DAY_US
from tests.support.faults.plugin import Record

PATIENCE_S = 120.0


def wait_until(what: str, check: Callable[[], bool], pause_s: float = 0.01) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(pause_s)


class World:
    """A context manager. What was acknowledged is in `acknowledged`, in the order of the spool.

    One pipeline (`orders`, id 1) and one day of receipt. `bodies` makes the nth request's body.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        segment_bytes: int = 16 * 1024,
        max_bytes: int = 1 << 30,
        lake: Lake | None = None,
        bodies: Callable[[int], bytes] = lambda n: b'{"n": %d, "fill": "%s"}' % (n, b"x" * (n % 100)),
    ) -> None:
        self.lake = lake or Lake(settings)
        self.spool = Spool(settings.spool_dir, segment_bytes, max_bytes, reserve_bytes=0)
        self.log = self.spool.writer()
        self.reader = self.spool.reader()
        self.bronze = BronzeWriter(
            self.reader, self.lake, settings.spool_dir, "node-1", split, {1: "orders"}.get,
            flush_s=0.02, flush_bytes=32 * 1024,
        )  # fmt: skip
        self.acknowledged: list[bytes] = []
        self.last = Position(0, 0)
        self.refused = 0
        self.refusal: SpoolFull | None = None
        self._bodies = bodies
        self._stop_sending = threading.Event()
        self._stop = threading.Event()
        self._sender = threading.Thread(target=self._send, name="sender", daemon=True)
        self._threads = [
            threading.Thread(target=self.bronze.run, args=(self._stop,), name="bronze", daemon=True),
            threading.Thread(target=self._trim, name="trim", daemon=True),
        ]

    def wait_for_more(self, count: int = 20) -> None:
        """Until so many more requests were acknowledged."""
        target = len(self.acknowledged) + count
        wait_until("more is acknowledged", lambda: len(self.acknowledged) >= target)

    def finish_sending(self) -> None:
        self._stop_sending.set()
        self._sender.join(PATIENCE_S)
        assert not self._sender.is_alive()

    def wait_for_bronze(self) -> None:
        """Until everything that was acknowledged is in the lake."""
        wait_until("all is in the lake", lambda: self.bronze.position > self.last)

    def check(self, what: str, record: Record, found: list[bytes]) -> None:
        """Count and assert: every acknowledged event is in `found` once, in order."""
        counted = Counter(found)
        lost = sum(body not in counted for body in self.acknowledged)
        doubled = sum(number - 1 for number in counted.values())
        record(what, times=1, acknowledged=len(self.acknowledged), lost=lost, doubled=doubled)
        assert found == self.acknowledged

    def __enter__(self) -> "World":
        for thread in (self._sender, *self._threads):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_sending.set()
        self._stop.set()
        for thread in (self._sender, *self._threads):
            thread.join(PATIENCE_S)
        self.reader.close()
        self.log.close()

    def _send(self) -> None:
        while not self._stop_sending.is_set():
            body = self._bodies(len(self.acknowledged))
            try:
                self.last = self.log.append_now(
                    workspace_id=1, pipeline_id=1, form=Form.OBJECT, events=1, body=body, received_us=DAY_US
                )
            except SpoolFull as refusal:
                self.refused += 1
                self.refusal = refusal
                self._stop_sending.wait(0.05)  # as a sender does that was told to come again
                continue
            self.acknowledged.append(body)
            self._stop_sending.wait(0.001)

    def _trim(self) -> None:
        while not self._stop.wait(0.05):
            self.spool.trim(self.bronze.position)
