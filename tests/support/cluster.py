"""The embedded server of a test process, and databases made from its templates.

A database is copied while the test before it runs, and thrown away while the one after it does: a copy is
made of hundreds of files, and a test that waits for something leaves the machine the time to make them.
"""

import os
import subprocess
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from sluiceway.infra.embedded import EmbeddedPostgres, binary

MIGRATED = "template_migrated"


class Cluster:
    """`server` with the template `MIGRATED`. Close it: what went wrong unseen is raised then."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        # One thread and one connection: what is asked for first is done first.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="cluster")
        self._connection: psycopg.Connection[Any] | None = None
        self._next: Future[str] | None = None
        self._dropping: deque[Future[None]] = deque()

    def create(self, template: str = MIGRATED) -> str:
        """A fresh database; returns the owner's address."""
        if template != MIGRATED:
            return self.server.url_of(self._worker.submit(self._make, template).result())
        made = self._next or self._worker.submit(self._make, MIGRATED)
        self._next = self._worker.submit(self._make, MIGRATED)
        return self.server.url_of(made.result())

    def drop(self, url: str) -> None:
        """Throw a database away, whoever is still connected to it."""
        name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
        self._dropping.append(self._worker.submit(self._drop, name))
        while self._dropping and self._dropping[0].done():
            self._dropping.popleft().result()

    def copy_to(self, other: EmbeddedPostgres) -> None:
        """Have `other`, which was never started, begin with all databases and roles of this server."""
        folder = other.data.absolute()
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                str(binary("pg_basebackup")), "--pgdata", str(folder), "--checkpoint=fast", "--no-sync",
                "--dbname", self.server.url_of("postgres"),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        if os.geteuid() == 0:  # the server runs as somebody else
            owner = self.server.data.stat()
            for path in (folder, *folder.rglob("*")):
                os.chown(path, owner.st_uid, owner.st_gid)

    def close(self) -> None:
        self._worker.submit(self._disconnect)
        self._worker.shutdown()
        for dropped in self._dropping:
            dropped.result()

    def _make(self, template: str) -> str:
        name = f"t_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def _drop(self, name: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        if self._connection is not None:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.OperationalError:  # a test ended it with others
                self._disconnect()
        if self._connection is None:
            self._connection = psycopg.connect(self.server.url_of("postgres"), autocommit=True)
        self._connection.execute(statement)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
