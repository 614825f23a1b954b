"""What is remembered of pipelines whose senders sign: as fresh, as lasting and as forgetful as of keys."""

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg
import pytest
import sqlalchemy as sa

from sluiceway.identity.errors import InvalidKey
from sluiceway.ingestion import access
from sluiceway.ingestion.access import (
    AWAY_S,
    BEHIND_S,
    FRESH_S,
    KEPT_S,
    REFUSED_S,
    AccessCache,
    Admission,
)
from sluiceway.ingestion.changes import ChangeListener
from sluiceway.ingestion.errors import DatabaseAway, MissingKey
from sluiceway.ingestion.senders.contracts import ActiveSecret
from sluiceway.ingestion.senders.service import make_verifier
from sluiceway.kit.errors import Unavailable
from tests.support.signers import spec

KEY = b"Bearer slw_abcdefghijkm_" + b"x" * 43


@dataclass
class Asked:
    """A database of one pipeline, `p`, with a clock of its own."""

    now: float = 1000.0
    calls: list[tuple[str | None, str]] = field(default_factory=list)
    secrets: list[str] = field(default_factory=lambda: ["one"])
    away: bool = False
    wrong: bool = False
    hold: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    def sender(self, workspace: str | None, slug: str) -> Admission:
        self.calls.append((workspace, slug))
        assert self.hold.wait(60)
        if self.away:
            raise sa.exc.OperationalError("x", {}, psycopg.OperationalError("gone"))
        if self.wrong:
            raise sa.exc.DataError("x", {}, psycopg.DataError("year is out of range"))
        if slug != "pp":
            raise MissingKey("Send the API key.")
        found = make_verifier(spec("github"), [ActiveSecret(s) for s in self.secrets])
        return Admission(1, 7, slug, "", frozenset(), math.inf, found)

    def key(self, key: str, slug: str) -> Admission:
        return Admission(1, 7, slug, key, frozenset(), math.inf)


def with_cache(test: Callable[[AccessCache, Asked], Awaitable[None]]) -> None:
    async def run() -> None:
        asked = Asked()
        cache = AccessCache(asked.key, senders=asked.sender, monotonic=lambda: asked.now)
        try:
            await test(cache, asked)
        finally:
            cache.close()

    asyncio.run(run())


def test_one_question_for_many_requests() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        assert cache.known_sender(None, "pp") is None
        found = await asyncio.gather(*(cache.admit_sender(None, "pp") for _ in range(20)))
        assert len(asked.calls) == 1 and len({id(f) for f in found}) == 1
        assert cache.known_sender(None, "pp") is found[0] and found[0].verifier is not None
        await cache.admit_sender("main", "pp")
        assert asked.calls == [(None, "pp"), ("main", "pp")]
        assert (await cache.admit(KEY, "pp")).verifier is None
        assert cache.known_sender(None, "pp") is found[0]

    with_cache(test)


def test_a_refusal_is_remembered_for_a_moment_only() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        for _ in range(5):
            with pytest.raises(MissingKey):
                await cache.admit_sender(None, "nothing")
        assert len(asked.calls) == 1
        asked.now += REFUSED_S + 0.1
        with pytest.raises(MissingKey):
            await cache.admit_sender(None, "nothing")
        assert len(asked.calls) == 2
        odd = ["w" * 101, "", "a\0", "a b", "ü", "\ud800", "\x80"]
        for workspace, slug in [(None, "../x"), (None, "A"), (None, ""), *((w, "pp") for w in odd)]:
            with pytest.raises(MissingKey):
                await cache.admit_sender(workspace, slug)
        assert len(asked.calls) == 2  # such names are nobody's: the database is not asked
        nobody = AccessCache(asked.key)
        with pytest.raises(MissingKey):
            await nobody.admit_sender(None, "pp")
        nobody.close()

    with_cache(test)


def test_senders_go_on_while_the_database_is_away() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        known = await cache.admit_sender(None, "pp")
        asked.away = True
        asked.now += BEHIND_S + 1
        assert await cache.admit_sender(None, "pp") is known
        with pytest.raises(DatabaseAway):
            await cache.admit_sender("other", "pp")
        asked.now += KEPT_S
        with pytest.raises(DatabaseAway):
            await cache.admit_sender(None, "pp")
        asked.away = False
        asked.now += AWAY_S + 0.1
        assert await cache.admit_sender(None, "pp") is not known

    with_cache(test)


def test_an_old_answer_is_asked_for_again_behind_the_requests() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        first = await cache.admit_sender(None, "pp")
        asked.now += FRESH_S + 0.1
        assert cache.known_sender(None, "pp") is None
        assert await cache.admit_sender(None, "pp") is first
        while cache.known_sender(None, "pp") is None:  # noqa: ASYNC110  # the answer comes by a thread
            await asyncio.sleep(0.001)
        assert cache.known_sender(None, "pp") is not first and len(asked.calls) == 2

    with_cache(test)


def test_a_changed_secret_is_forgotten_at_once() -> None:
    """Also while the database is away: better to answer 503 than to believe a removed secret."""

    async def test(cache: AccessCache, asked: Asked) -> None:
        listener = ChangeListener(None, cache, asyncio.get_running_loop())  # type: ignore[arg-type]
        await cache.admit_sender(None, "pp")
        by_key = await cache.admit(KEY, "pp")
        listener._tell('{"t":"secrets","w":1,"p":8}')
        await asyncio.sleep(0)
        assert cache.known_sender(None, "pp") is not None  # another pipeline's
        listener._tell('{"t":"secrets","w":1,"p":7}')
        await asyncio.sleep(0)
        assert cache.known_sender(None, "pp") is None
        asked.away = True
        with pytest.raises(DatabaseAway):
            await cache.admit_sender(None, "pp")
        assert await cache.admit(KEY, "pp") is by_key

    with_cache(test)


def test_an_answer_that_was_on_its_way_is_asked_for_again() -> None:
    """Read before a secret was removed, it arrives after the notice of that: nobody joins or keeps it."""

    async def test(cache: AccessCache, asked: Asked) -> None:
        asked.hold.clear()
        waiting = asyncio.ensure_future(cache.admit_sender(None, "pp"))
        while not asked.calls:  # noqa: ASYNC110  # the question is asked in a thread
            await asyncio.sleep(0.001)
        cache.forget(pipeline_id=7, secrets=True)
        later = asyncio.ensure_future(cache.admit_sender(None, "pp"))
        while len(asked.calls) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        asked.hold.set()
        await asyncio.gather(waiting, later)
        assert len(asked.calls) == 3
        assert cache.known_sender(None, "pp") is not None

    with_cache(test)


def test_a_changed_pipeline_is_asked_for_again() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        first = await cache.admit_sender(None, "pp")
        cache.forget(pipeline_id=7)
        assert cache.known_sender(None, "pp") is None
        assert await cache.admit_sender(None, "pp") is not first

    with_cache(test)


class Request:
    """Stands for a request's scope: held by the frames that wait for its answer."""


def test_a_refusal_keeps_nothing_of_the_requests_it_was_told_to() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        seen: list[weakref.ref[Request]] = []

        async def ask() -> str:
            request = Request()
            seen.append(weakref.ref(request))
            try:
                await cache.admit_sender(None, "nothing")
            except MissingKey as error:
                return f"{error.detail} {len(str(request))}"
            return ""

        assert all(await asyncio.gather(*(ask() for _ in range(3))))  # one question, three refusals
        assert await ask()  # remembered
        gc.collect()
        assert len(asked.calls) == 1 and [r() for r in seen] == [None] * 4
        assert all(e.__traceback__ is None and e.__context__ is None for e, _ in cache._refused.values())

    with_cache(test)


def test_nothing_is_asked_or_kept_for_what_cannot_be_a_key_or_a_pipeline() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        for key in (b"Bearer slw_x", b"Bearer " + b"x" * 5000):
            with pytest.raises(InvalidKey):
                await cache.admit(key, "pp")
        assert not cache._entries and not cache._refused
        for slug in ("A", "../x", "x" * 5000, "\0"):
            await cache.admit(KEY, slug)  # this database knows every key and every name
        assert len(cache._entries) == 1

    with_cache(test)


def test_strangers_do_not_drive_good_answers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MOST_ENTRIES", 4)

    async def test(cache: AccessCache, asked: Asked) -> None:
        good = [await cache.admit_sender(workspace, "pp") for workspace in ("a", "b", "c")]
        for number in range(10):
            with pytest.raises(MissingKey):
                await cache.admit_sender(None, f"guess-{number}")
        assert [cache.known_sender(w, "pp") for w in ("a", "b", "c")] == good
        assert (len(cache._entries), len(cache._refused)) == (3, 1)
        for workspace in ("d", "e"):  # then the oldest good one goes
            await cache.admit_sender(workspace, "pp")
        assert cache.known_sender("a", "pp") is None and cache.known_sender("b", "pp") is good[1]
        with pytest.raises(MissingKey):
            await cache.admit_sender(None, "guess")
        assert (len(cache._entries), len(cache._refused)) == (4, 0)

    with_cache(test)


def test_an_error_about_one_question_is_no_database_that_is_away() -> None:
    async def test(cache: AccessCache, asked: Asked) -> None:
        known = await cache.admit_sender(None, "pp")
        asked.wrong = True
        with pytest.raises(Unavailable) as caught:
            await cache.admit_sender("other", "pp")
        assert caught.value.code == "unavailable"
        asked.now += BEHIND_S + 1
        assert await cache.admit_sender(None, "pp") is known
        asked.wrong = False
        assert await cache.admit_sender("other", "pp") is not known, "the database is still asked"

    with_cache(test)
