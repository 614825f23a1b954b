"""`sign_in`: signing in under load, and the requests of 1,000 people who are signed in.

Ours: sessions begun a second by 16 connections at once (password, argon2id, audit entry, session, all in
PostgreSQL). Limit: what the same machine hashes with the same argon2id and does nothing else, on two cores,
as many as sign-ins may take at a time. The detail has requests a second with 1,000 live sessions in turn,
each recognised in the database, and of a route of the same server that recognises nobody. What a request
costs is told in processor time, too, which can be compared on a machine that does other things. The sender is
a process of its own, and says how much of a core it took. No peer: others hash otherwise.
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from benchmarks.end_to_end import processes
from benchmarks.ingest_stand import SECRET, Server, Stand, stand
from benchmarks.loadgen import request
from sluiceway.identity import passwords, service, sessions
from sluiceway.infra.database import Database, Role
from sluiceway.infra.embedded import EmbeddedPostgres
from sluiceway.infra.keys import SecretKey

SECONDS = 10.0
SIGNING_IN, READING = 16, 64
PEOPLE, SESSIONS = 50, 1_000
PASSWORD = "violet otter climbs quietly"
# One address makes them all here; each person has as many as they like.
UNLIMITED = {f"SLUICEWAY_{who}_REQUESTS_PER_MINUTE": "0" for who in ("USER", "KEY", "ADDRESS")}


@dataclass(frozen=True)
class Load:
    """What came of a load: answers a second, and what each cost the server and the database."""

    per_s: float
    p95_ms: float
    server_us: float
    database_us: float
    sender_share: float

    def __str__(self) -> str:
        return (
            f"{self.per_s:,.0f} requests/s (p95 {self.p95_ms:.0f} ms; {self.server_us / 1000:.2f} ms of"
            f" processor time in the server, {self.database_us / 1000:.2f} ms in PostgreSQL; the sender took"
            f" {self.sender_share:.0%} of a core)"
        )


def run() -> dict[str, Any]:
    with stand() as found:
        found.environment.update(UNLIMITED)
        tokens = with_people(found)
        hashed = hashes_a_second()
        with processes(found, (("web", []),)) as port:
            server = Server(port, _web_process())
            begun = under_load(found, server, SIGNING_IN, [_sign_in(n) for n in range(PEOPLE)], "201")
            asked = [_get("/v1/me/preferences", f"sluiceway_session={token}") for token in tokens]
            known = under_load(found, server, READING, asked, "200")
            nobody = under_load(found, server, READING, [_get("/v1/schemas/pipeline")], "200")
    return {
        "ours": round(begun.per_s, 1),
        "limit": round(hashed, 1),
        "peer": None,
        "unit": "sign-ins/s",
        "detail": (
            f"{SIGNING_IN} connections for {SECONDS:g} s: {begun}; server, database and the sender share the"
            f" machine. {SESSIONS:,} live sessions in turn by {READING} connections, each from the database:"
            f" {known}. A route that asks nobody who they are: {nobody}."
        ),
    }


def under_load(found: Stand, server: Server, connections: int, requests: list[bytes], status: str) -> Load:
    """Send `requests` in turn for `SECONDS`. Raises RuntimeError where an answer has another status."""
    before = _database_us(found)
    seen = found.load(server, connections, SECONDS, requests)
    spent = _database_us(found) - before
    if set(seen["statuses"]) != {status}:
        raise RuntimeError(f"Answers were {seen['statuses']}, not {status} alone.")
    return Load(
        per_s=seen["requests"] / SECONDS,
        p95_ms=seen["p95"],
        server_us=seen["cpu_us"],
        database_us=spent / seen["answered"],
        sender_share=seen["sender_share"],
    )


def _sign_in(number: int) -> bytes:
    body = json.dumps({"email": f"p{number}@example.com", "password": PASSWORD}).encode()
    headers = {"content-type": "application/json", "x-sluiceway-request": "1"}
    return request("/v1/session", body, headers)


def _get(path: str, cookie: str = "") -> bytes:
    return request(path, b"", {"cookie": cookie} if cookie else {}, "GET")


def _web_process() -> int:
    """The server: the one child that serves the web."""
    children = psutil.Process().children()
    return next(c.pid for c in children if "sluiceway.runtime.processes.web" in c.cmdline())


def _database_us(found: Stand) -> float:
    """Processor time of the database's processes so far, of those that have ended, too."""
    pid = EmbeddedPostgres(found.folder / "pg").pid
    assert pid is not None
    server = psutil.Process(pid)
    times = [server.cpu_times(), *(child.cpu_times() for child in server.children())]
    ended = times[0].children_user + times[0].children_system
    return float(ended + sum(t.user + t.system for t in times)) * 1e6


def with_people(found: Stand) -> list[str]:
    """50 people with 20 sessions each; the sessions' tokens."""
    database = Database(found.environment["SLUICEWAY_DATABASE_URL"], SecretKey(SECRET.encode()))
    now = datetime.now(UTC)
    tokens = []
    with database.transaction(Role.APP, workspace_id=1) as conn:
        for number in range(PEOPLE):
            email = f"p{number}@example.com"
            user = service.create_user(conn, email, f"Person {number}", PASSWORD, "viewer", 1)
            for _ in range(SESSIONS // PEOPLE):
                tokens.append(
                    sessions.create_session(
                        conn, user_id=user.id, workspace_id=1, now=now, lifetime=timedelta(hours=1)
                    )
                )
    database.dispose()
    return tokens


def hashes_a_second() -> float:
    """Comparisons of one password on two threads; argon2 leaves Python's lock alone while it works."""
    stored = passwords.hash_password(PASSWORD)

    def many() -> int:
        end, count = time.perf_counter() + SECONDS / 2, 0
        while time.perf_counter() < end:
            assert passwords.verify(stored, PASSWORD)
            count += 1
        return count

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda _: many(), range(2))) / (SECONDS / 2)
