"""A node as senders see it: the event route on a port, its own spool, a loader and a lake writer over it."""

import dataclasses
from pathlib import Path
from typing import Any

import httpx

from api.events import event_app
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.ingestion.spool import SpoolReader
from sluiceway.lake.service import Lake
from sluiceway.lake.writer import BronzeWriter
from sluiceway.transforms.service import split
from tests.support.event_server import ThreadedServer, protocol_of
from tests.support.loading import Bench


class Node:
    """Close it. `key`: sent with every request; None: the sender has to sign."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        folder: Path,
        *,
        name: str = "a",
        key: str | None = None,
        pipeline: str = "orders",
        way: str = "plain",
    ) -> None:
        self.settings = dataclasses.replace(settings, node=name)
        self.bench = Bench(database, folder / name, source="", node=name, clock=SystemClock())
        self.route = event_app(self.settings, self.bench.writer, database)
        self.server = ThreadedServer(self.route, protocol_of(way, self.route), grace_s=1)
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.server.port}", headers=headers, timeout=60
        )
        self.address = f"/v1/pipelines/{pipeline}/events"
        self.lake = Lake(self.settings)
        self._reader = SpoolReader(folder / name)
        self.bronze = BronzeWriter(
            self._reader, self.lake, folder / name, name, split, lambda _: pipeline, flush_s=0.01
        )

    def post(
        self, body: bytes, headers: dict[str, str] | None = None, *, query: str = "", **options: Any
    ) -> httpx.Response:
        sent = {"content-type": "application/json", **{k.lower(): v for k, v in (headers or {}).items()}}
        address = self.address + (f"?{query}" if query else "")
        return self.client.post(address, content=body, headers=sent, **options)

    def load(self) -> None:
        """Everything that was accepted, into silver."""
        self.bench.load()

    def flush(self) -> None:
        """Everything that was accepted, into bronze."""
        while self.bronze.step(force=True):
            pass

    def close(self) -> None:
        self.client.close()
        self.server.stop()
        self._reader.close()
        self.bench.close()
