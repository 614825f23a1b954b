"""Who may send to which pipeline, remembered for a few seconds, so that a request costs no query.

An answer is fresh for 5 seconds, then asked again behind the requests' backs; NOTIFY makes it stale at
once when a key is revoked or a pipeline changes. While the database is away, what was known stays good for
an hour: taking events in goes on. A request with a key is asked about with `known` and `admit`; one without
with `known_sender` and `admit_sender`: what they give has the `verifier` that its body must pass.
Not here: what a key is (`sluiceway.identity.keys`), how a sender signs (`ingestion.senders`), hearing of
changes (`ingestion.changes`).
"""

import asyncio
import copy
import hashlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import psycopg
import sqlalchemy as sa

from sluiceway.catalog.contracts import SLUG_PATTERN, Pipeline
from sluiceway.catalog.errors import PipelineArchived, PipelineNotFound
from sluiceway.catalog.limits import NO_LIMITS, KeyLimits, LimitsSpec
from sluiceway.catalog.service import Catalog
from sluiceway.identity.contracts import KeyCaller
from sluiceway.identity.errors import ExpiredKey, MissingScope
from sluiceway.identity.keys import authenticate, parse_key, touch_key
from sluiceway.identity.service import find_workspace
from sluiceway.infra.clock import Clock
from sluiceway.infra.database import Database, Role, set_identity
from sluiceway.infra.database_errors import is_away
from sluiceway.infra.trouble import describe
from sluiceway.ingestion.errors import DatabaseAway, MissingKey
from sluiceway.ingestion.senders.contracts import Verifier
from sluiceway.ingestion.senders.secrets import active_secrets
from sluiceway.ingestion.senders.service import make_verifier
from sluiceway.kit.errors import Forbidden, SluicewayError, Unavailable
from sluiceway.transforms.paths import compile_path

log = logging.getLogger("sluiceway.ingestion")

FRESH_S = 5.0
BEHIND_S = 30.0  # up to this age an answer is used while a new one is fetched
KEPT_S = 3600.0  # up to this age it is used while the database is away
REFUSED_S = 2.0
AWAY_S = 1.0  # for so long nobody is sent to a database that did not answer
ASK_S = 3.0  # longest wait of a request for an answer
MOST_ENTRIES = 20_000
_TRIES = 3  # of one question, while changes are told faster than it is answered
_SLUG = re.compile(SLUG_PATTERN)
_WORKSPACE = re.compile(r"[!-~]{1,100}")


class PipelineNotPermitted(Forbidden):
    code = "pipeline_not_permitted"
    title = "The API key is for other pipelines"


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request needs to know once its key is known to be good for the pipeline.

    `headers`: names to keep, lower case. `expires_at_s`: Unix time. `verifier`: set where no key was shown;
    nothing of the request may be stored before it has passed. `key_id` is empty then. `limits` are the
    pipeline's, `key_limits` the key's own if it has any. `origins`: sites whose pages may send (lower case).
    `split`: the path of the array whose items are the events, where the pipeline has one.
    """

    workspace_id: int
    pipeline_id: int
    slug: str
    key_id: str
    headers: frozenset[bytes]
    expires_at_s: float
    verifier: Verifier | None = None
    limits: LimitsSpec = NO_LIMITS
    key_limits: KeyLimits | None = None
    origins: frozenset[bytes] = frozenset()
    split: tuple[str, ...] | None = None


class Lookup(Protocol):
    """Asks the database; blocks; called in a thread."""

    def __call__(self, key: str, slug: str) -> Admission:
        """Raises `Unauthenticated`, `Forbidden`, `NotFound`; a `SQLAlchemyError` if it is away."""
        ...


class SenderLookup(Protocol):
    """Asks for a pipeline whose senders sign; blocks; called in a thread."""

    def __call__(self, workspace: str | None, slug: str) -> Admission:
        """Raises `MissingKey` for every pipeline that is not there or has no scheme; else as `Lookup`."""
        ...


class DatabaseLookup:
    """The real one: one short transaction as the API's role."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._catalog = Catalog()

    def __call__(self, key: str, slug: str) -> Admission:
        now = self._clock.now()
        with self._database.transaction(Role.APP) as connection:
            caller = authenticate(connection, key, now=now)
            if not caller.may_send:
                held = ", ".join(sorted(caller.scopes)) or "none"
                raise MissingScope(
                    f"This needs a key with the scope ingest; the key's scopes are: {held}."
                    if caller.account is None
                    else "This needs a key that may send events: its scopes and its account's roles have to"
                    f" allow that; its scopes are: {held}."
                )
            admission = self._admission(connection, caller, slug)
            touch_key(connection, caller, now)
        return admission

    def sender(self, workspace: str | None, slug: str) -> Admission:
        """For a request without a key: the pipeline's own scheme and its secrets. See `SenderLookup`."""
        with self._database.transaction(Role.APP) as connection:
            pipeline = self._named(connection, workspace, slug)
            spec = pipeline.spec.source.verify
            if spec is None:
                raise _no_key()
            found = active_secrets(
                connection, self._database.envelope, pipeline.workspace_id, pipeline.id, now=self._clock.now()
            )
        return _admission(pipeline, "", float("inf"), make_verifier(spec, found))

    def page(self, workspace: str | None, slug: str) -> Admission:
        """For a browser that asks whether a page may send: good for its `origins`, and for nothing else.

        Raises `MissingKey` for every pipeline that is not there or names no site.
        """
        with self._database.transaction(Role.APP) as connection:
            pipeline = self._named(connection, workspace, slug)
        if not pipeline.spec.source.allowed_origins:
            raise _no_key()
        return _admission(pipeline, "", float("inf"), None)

    def _named(self, connection: sa.Connection, workspace: str | None, slug: str) -> Pipeline:
        """The pipeline that a stranger's address names, once the transaction acts for its workspace."""
        workspace_id = find_workspace(connection, workspace) if _SLUG.fullmatch(slug) else None
        if workspace_id is None:
            raise _no_key()
        set_identity(connection, workspace_id=workspace_id)
        try:
            pipeline = self._catalog.get(connection, workspace_id, slug)
        except PipelineNotFound:
            raise _no_key() from None
        if pipeline.state == "archived":
            raise _no_key()
        return pipeline

    def _admission(self, connection: sa.Connection, caller: KeyCaller, slug: str) -> Admission:
        if not _SLUG.fullmatch(slug):
            raise PipelineNotFound("There is no pipeline of this name in this workspace.")
        refused = PipelineNotPermitted(f"This key may not send to the pipeline {slug!r}.")
        try:
            pipeline = self._catalog.get(connection, caller.workspace_id, slug)
        except PipelineNotFound:
            if caller.pipeline_ids is not None:  # whose key is for some does not learn of others
                raise refused from None
            raise
        if not caller.may_send_to(pipeline.id):
            raise refused
        if pipeline.state == "archived":
            raise PipelineArchived(f"The pipeline {slug!r} is archived and takes no events.")
        expires_at_s = caller.expires_at.timestamp() if caller.expires_at else float("inf")
        admission = _admission(pipeline, caller.key_id, expires_at_s, None)
        if caller.rate_per_s is None or caller.burst is None:
            return admission
        return replace(admission, key_limits=KeyLimits(caller.rate_per_s, caller.burst))


def _admission(pipeline: Pipeline, key_id: str, expires_at_s: float, verifier: Verifier | None) -> Admission:
    return Admission(
        workspace_id=pipeline.workspace_id,
        pipeline_id=pipeline.id,
        slug=pipeline.slug,
        key_id=key_id,
        headers=frozenset(name.encode("latin-1") for name in pipeline.spec.header_names),
        expires_at_s=expires_at_s,
        verifier=verifier,
        # The same object for every pipeline without limits: the event route asks by identity.
        limits=NO_LIMITS if pipeline.spec.limits == NO_LIMITS else pipeline.spec.limits,
        origins=frozenset(origin.encode() for origin in pipeline.spec.source.allowed_origins),
        split=compile_path(pipeline.spec.source.split).keys if pipeline.spec.source.split else None,
    )


def _no_key() -> MissingKey:
    return MissingKey("Send the API key as 'Authorization: Bearer slw_…'.")


@dataclass(slots=True)
class _Entry:
    """A good answer and when it was given; `refreshing` while a newer one is on its way."""

    answer: Admission
    at: float
    refreshing: bool = False


Ask = Callable[[], Admission]
Answer = Admission | SluicewayError
Name = tuple[bytes, str]
"""Of an answer: an Authorization header's SHA-256, or `sender:` or `page:` and a workspace; a pipeline."""


def access_name(authorization: bytes, slug: str) -> Name:
    """What the answer for a key is kept under: not the key itself."""
    return hashlib.sha256(authorization).digest(), slug


class AccessCache:
    """For one event loop. `lookup` and `senders` run in a few threads of the cache's own.

    Without `senders` every request needs a key. `check` raises for what cannot be a key: nothing is asked or
    kept for it.
    """

    def __init__(
        self,
        lookup: Lookup,
        *,
        senders: SenderLookup | None = None,
        pages: SenderLookup | None = None,
        check: Callable[[str], object] = parse_key,
        monotonic: Callable[[], float] = time.monotonic,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self._lookup = lookup
        self._senders = senders
        self._pages = pages
        self._check = check
        self._monotonic = monotonic
        self._time_s = time_s
        # By SHA-256 of the Authorization header: the keys themselves are not kept. Oldest first. Refusals are
        # apart: however many strangers ask, the good answers stay, which outlast a database that is away.
        self._entries: OrderedDict[Name, _Entry] = OrderedDict()
        self._refused: OrderedDict[Name, tuple[SluicewayError, float]] = OrderedDict()
        self._waiting: dict[Name, asyncio.Task[Answer]] = {}
        self._asking: set[asyncio.Task[Answer]] = set()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="ingest-access")
        self._away_at = float("-inf")
        self._forgotten = 0

    def known(self, authorization: bytes, slug: str) -> Admission | None:
        """The answer if it is fresh and good: the way of nearly every request."""
        return self._fresh(access_name(authorization, slug))

    def known_as(self, name: Name) -> Admission | None:
        """`known` for a caller that keeps the `access_name` of what it asks for."""
        return self._fresh(name)

    def known_sender(self, workspace: str | None, slug: str) -> Admission | None:
        """As `known`, for a request without a key; `workspace`: as its address names it."""
        return self._fresh((_sender(workspace), slug))

    async def admit(self, authorization: bytes, slug: str) -> Admission:
        """The answer, asked for if need be.

        Raises `MissingKey`, `InvalidKey`, `ExpiredKey`, `MissingScope`, `PipelineNotPermitted`,
        `PipelineNotFound`, `PipelineArchived`, or `DatabaseAway` if nothing is known and nobody can be asked.
        """
        key = bearer(authorization)
        self._check(key)
        # All that no pipeline can be called is one name: it makes one entry, whatever is asked for.
        slug = slug if _SLUG.fullmatch(slug) else ""
        name = access_name(authorization, slug)
        return await self._admit(name, partial(self._lookup, key, slug))

    async def admit_sender(self, workspace: str | None, slug: str) -> Admission:
        """As `admit`, for a request without a key. The answer's `verifier` is set.

        Raises `MissingKey` for a pipeline that is not there, archived or without `source.verify` (a stranger
        is told no more), or `DatabaseAway`.
        """
        ask = self._named(self._senders, workspace, slug)
        return await self._admit((_sender(workspace), slug), ask)

    async def admit_page(self, workspace: str | None, slug: str) -> Admission:
        """As `admit`, for a browser that asks whether a page may send: the answer's `origins` may.

        Raises `MissingKey` for a pipeline that is not there, archived or names no site, or `DatabaseAway`.
        """
        ask = self._named(self._pages, workspace, slug)
        return await self._admit((b"page:" + _sender(workspace), slug), ask)

    @staticmethod
    def _named(lookup: SenderLookup | None, workspace: str | None, slug: str) -> Ask:
        # What no workspace can be called never reaches the database, which would take some of it for a fault.
        known = workspace is None or _WORKSPACE.fullmatch(workspace)
        if lookup is None or not known or not _SLUG.fullmatch(slug):
            raise _no_key()
        return partial(lookup, workspace, slug)

    def _fresh(self, name: Name) -> Admission | None:
        entry = self._entries.get(name)
        if entry is None or self._monotonic() - entry.at > FRESH_S:
            return None
        return entry.answer if entry.answer.expires_at_s > self._time_s() else None

    async def _admit(self, name: Name, ask: Ask) -> Admission:
        now = self._monotonic()
        refused = self._refused.get(name)
        if refused is not None and now - refused[1] <= REFUSED_S:
            raise _bare(refused[0])
        entry = self._entries.get(name)
        if entry is None or now - entry.at > BEHIND_S:
            return await self._answer(name, ask)
        if entry.answer.expires_at_s <= self._time_s():
            raise ExpiredKey("The API key has expired.")
        if now - entry.at > FRESH_S and not entry.refreshing:
            entry.refreshing = True
            self._shared(name, ask).add_done_callback(_seen)
        return entry.answer

    def forget(
        self, *, key_id: str | None = None, pipeline_id: int | None = None, secrets: bool = False
    ) -> None:
        """Make answers about a key or a pipeline stale (both None: all). To be called on the event loop.

        Good ones stay in case the database goes away now, but for those of a revoked key, and with `secrets`
        those that hold the pipeline's secrets: one was removed.
        """
        self._forgotten += 1
        # What is on its way may have been read before: nobody waits for it any more but who already does.
        self._waiting.clear()
        self._refused.clear()
        for name, entry in list(self._entries.items()):
            answer = entry.answer
            of_it = answer.pipeline_id == pipeline_id
            if answer.key_id == key_id or (secrets and answer.verifier is not None and of_it):
                del self._entries[name]
            elif (key_id is None and pipeline_id is None) or of_it:
                entry.at = min(entry.at, self._monotonic() - BEHIND_S - 0.001)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, name: Name, ask: Ask) -> Admission:
        """Ask and wait; what was known before serves while the database is away or too slow."""
        if self._monotonic() - self._away_at < AWAY_S:
            return _good(self._without_database(name))
        task = self._shared(name, ask)
        done, _ = await asyncio.wait({task}, timeout=ASK_S)
        if done:
            return _good(task.result())
        self._away_at = self._monotonic()
        task.add_done_callback(_seen)
        return _good(self._without_database(name))

    def _shared(self, name: Name, ask: Ask) -> "asyncio.Task[Answer]":
        """One query for all requests that wait for the same answer."""
        task = self._waiting.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(name, ask))
            self._waiting[name] = task
            self._asking.add(task)
            task.add_done_callback(partial(self._asked, name))
        return task

    def _asked(self, name: Name, task: "asyncio.Task[Answer]") -> None:
        self._asking.discard(task)
        if self._waiting.get(name) is task:
            del self._waiting[name]

    async def _ask(self, name: Name, ask: Ask) -> Answer:
        """The answer, asked for anew where something was forgotten meanwhile. Refusals are returned."""
        loop = asyncio.get_running_loop()
        for _ in range(_TRIES):
            forgotten = self._forgotten
            try:
                answer: Answer = await loop.run_in_executor(self._threads, ask)
            except (sa.exc.SQLAlchemyError, psycopg.Error) as error:
                if is_away(error):
                    log.warning("database away: %s", describe(error))
                    self._away_at = self._monotonic()
                    return self._without_database(name)
                log.exception("who may send cannot be read")  # it is about the question that was asked
                told = Unavailable("The key cannot be checked: the log says why.", retry_after_s=2)
                return self._known_before(name) or told
            except SluicewayError as error:
                answer = _bare(error)
            if self._forgotten == forgotten:
                self._keep(name, answer)
                break
        # Not kept if it never was quiet: the next request asks again.
        return answer

    def _without_database(self, name: Name) -> Answer:
        away = DatabaseAway("The key cannot be checked just now.", retry_after_s=2)
        return self._known_before(name) or away

    def _known_before(self, name: Name) -> Admission | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        entry.refreshing = False
        good = self._monotonic() - entry.at < KEPT_S and entry.answer.expires_at_s > self._time_s()
        return entry.answer if good else None

    def _keep(self, name: Name, answer: Answer) -> None:
        self._entries.pop(name, None)
        self._refused.pop(name, None)
        if len(self._entries) + len(self._refused) >= MOST_ENTRIES:
            if self._refused:
                self._refused.popitem(last=False)
            elif isinstance(answer, Admission):
                self._entries.popitem(last=False)
            else:
                return
        if isinstance(answer, Admission):
            self._entries[name] = _Entry(answer, self._monotonic())
        else:
            self._refused[name] = answer, self._monotonic()


def _good(answer: Answer) -> Admission:
    """Raises a refusal: a copy for each request."""
    if isinstance(answer, Admission):
        return answer
    raise _bare(answer)


def _bare(error: SluicewayError) -> SluicewayError:
    """The same without where it was raised: a traceback holds its frames, and they the whole request."""
    return copy.copy(error)


def _sender(workspace: str | None) -> bytes:
    # Longer than a SHA-256: a key's answer and a sender's never meet.
    return b"sender:" + hashlib.sha256((workspace or "").encode()).digest()


def bearer(authorization: bytes) -> str:
    """The key in an Authorization header. Raises `MissingKey` if there is none."""
    scheme, _, key = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not key.strip():
        raise _no_key()
    return key.strip().decode("latin-1")


def _seen(task: "asyncio.Task[Answer]") -> None:
    """A refresh behind the requests' backs may fail: the next request asks again and tells its sender."""
    if not task.cancelled():
        task.exception()
