"""`sign_in`: signing in under load, and the requests of 1,000 people who are signed in.

Ours: sessions begun a second by 16 connections at once (password, argon2id, audit entry, session, all in
PostgreSQL). Limit: what the same machine hashes with the same argon2id and does nothing else, on two cores,
as many as sign-ins may take at a time. The detail has requests a second with 1,000 live sessions in turn,
each recognised, and of a route of the same server that recognises nobody. No peer: others hash otherwise.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from benchmarks.end_to_end import processes
from benchmarks.ingest_stand import SECRET, Stand, stand
from sluiceway.identity import passwords, service, sessions
from sluiceway.infra.database import Database, Role
from sluiceway.infra.keys import SecretKey

SECONDS = 10.0
SIGNING_IN, READING = 16, 64
PEOPLE, SESSIONS = 50, 1_000
PASSWORD = "violet otter climbs quietly"
# One address makes them all here; each person has as many as they like.
UNLIMITED = {f"SLUICEWAY_{who}_REQUESTS_PER_MINUTE": "0" for who in ("USER", "KEY", "ADDRESS")}


def run() -> dict[str, Any]:
    with stand() as found:
        found.environment.update(UNLIMITED)
        cookies = with_people(found)
        hashed = hashes_a_second()
        with processes(found, (("web", []),)) as port:
            base = f"http://127.0.0.1:{port}"
            emails = itertools.cycle([f"p{n}@example.com" for n in range(PEOPLE)])
            turn = itertools.cycle(cookies)

            async def sign_in(client: httpx.AsyncClient) -> None:
                body = {"email": next(emails), "password": PASSWORD}
                answer = await client.post("/v1/session", json=body, headers={"X-Sluiceway-Request": "1"})
                assert answer.status_code == 201, answer.text

            async def known(client: httpx.AsyncClient) -> None:
                cookie = {"Cookie": f"sluiceway_session={next(turn)}"}
                assert (await client.get("/v1/me/preferences", headers=cookie)).status_code == 200

            async def nobody(client: httpx.AsyncClient) -> None:
                assert (await client.get("/v1/schemas/pipeline")).status_code == 200

            begun, p95_ms = asyncio.run(under_load(base, sign_in, SIGNING_IN))
            recognised, read_ms = asyncio.run(under_load(base, known, READING))
            unasked, _ = asyncio.run(under_load(base, nobody, READING))
    return {
        "ours": round(begun, 1),
        "limit": round(hashed, 1),
        "peer": None,
        "unit": "sign-ins/s",
        "detail": (
            f"{SIGNING_IN} connections for {SECONDS:g} s, p95 {p95_ms:.0f} ms; server, database and the"
            f" senders share the machine. {SESSIONS:,} live sessions in turn by {READING} connections:"
            f" {recognised:,.0f} requests/s (p95 {read_ms:.0f} ms), each from the database; a route that asks"
            f" nobody who they are: {unasked:,.0f}/s."
        ),
    }


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


async def under_load(
    base: str, work: Callable[[httpx.AsyncClient], Awaitable[None]], connections: int
) -> tuple[float, float]:
    """Done a second, and the 95th percentile in milliseconds; the first second is for warming up."""
    took: list[float] = []
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        begin = time.perf_counter() + 1.0

        async def again() -> None:
            while (at := time.perf_counter()) < begin + SECONDS:
                await work(client)
                if at >= begin:
                    took.append(time.perf_counter() - at)

        await asyncio.gather(*(again() for _ in range(connections)))
    took.sort()
    return len(took) / SECONDS, took[int(len(took) * 0.95)] * 1000
