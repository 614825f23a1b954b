"""How the platform is, stage by stage, in figures and in words: what the app's page Health shows."""

import time
from datetime import datetime
from threading import Lock
from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from api.deps import Services, bearer_scheme, catalog, cookie_scheme
from api.errors import problem_responses
from api.metrics import HttpMetrics
from api.security import identify, session_token
from api.services import ApiServices
from sluiceway.health.collecting import find_held
from sluiceway.health.contracts import Health, StageKey, State, Unit
from sluiceway.health.facts import Held
from sluiceway.health.service import HealthWatch
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.identity.sessions import hash_token

router = APIRouter(prefix="/v1", tags=["operations"])

KNOWN_S = 900.0
_MOST_KNOWN = 256


class FigureOut(BaseModel):
    key: str
    label: str
    value: float | None = Field(description="Null: not known.")
    unit: Unit


class FindingOut(BaseModel):
    state: Literal["unknown", "warning", "critical"]
    words: str = Field(description="What is wrong.")
    advice: str = Field(description="What to do.")


class StageOut(BaseModel):
    key: StageKey
    title: str
    about: str
    state: State
    figures: list[FigureOut]
    findings: list[FindingOut]
    trend: str = Field(description="Key of the figure that `history` is of.")
    history: list[float | None] = Field(description="Oldest first, one value every `history_step_s`.")


class ProcessOut(BaseModel):
    node: str
    name: str
    state: State = Field(description="warning: it was stopped; critical: it fell silent.")
    heard_at: datetime
    started_at: datetime
    memory_bytes: float | None
    cpu_ratio: float | None = Field(description="Processors it kept busy within the last minute.")


class HealthOut(BaseModel):
    at: datetime
    state: State
    words: str = Field(description="The headline.")
    stages: list[StageOut]
    processes: list[ProcessOut]
    history_step_s: float


class KnownCallers:
    """Who asked this process for its health lately and was allowed to.

    While the database is away nobody can be looked up, and just then people want to see what is wrong:
    whoever was let in within the last quarter of an hour still is, here and to no tenant's data.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[bytes, tuple[float, Caller]] = {}

    def remember(self, token: bytes, caller: Caller) -> None:
        with self._lock:
            if len(self._found) >= _MOST_KNOWN:
                self._found.clear()
            self._found[token] = (time.monotonic() + KNOWN_S, caller)

    def find(self, token: bytes) -> Caller | None:
        with self._lock:
            until, caller = self._found.get(token, (0.0, None))
        return caller if until > time.monotonic() else None


def health_watch(services: ApiServices) -> HealthWatch:
    """The process's one watch, made when first asked for."""
    found = services.extra.get("health")
    if not isinstance(found, HealthWatch):
        held: HttpMetrics = services.extra["metrics"]
        found = HealthWatch(services.settings, services.database, held.report, clock=services.clock)
        services.extra["health"] = found
    return found


@router.get(
    "/health/stages",
    summary="How every stage is",
    dependencies=[Depends(bearer_scheme), Depends(cookie_scheme)],
    responses=problem_responses((401, 403, 503)),
)
def read_health_stages(request: Request, services: Services) -> HealthOut:
    """State, figures of the last minute, half an hour's history, and what is wrong with what to do."""
    known: KnownCallers = services.extra.setdefault("health_callers", KnownCallers())
    token = _token(request, services)
    held: list[Held] = []
    try:
        caller = identify(request, services)
        caller.check(Permission.PIPELINE_READ)
        with catalog(services, caller) as connection:
            held = find_held(connection, caller.workspace_id)
        known.remember(token, caller)
    except sa.exc.SQLAlchemyError:
        if known.find(token) is None:
            raise
    return _shown(health_watch(services).assess(held))


def _token(request: Request, services: ApiServices) -> bytes:
    """What the caller proves itself with, as a hash."""
    return hash_token(request.headers.get("authorization") or session_token(request, services.settings) or "")


def _shown(found: Health) -> HealthOut:
    return HealthOut(
        at=found.at,
        state=found.state,
        words=found.words,
        stages=[
            StageOut(
                key=stage.key,
                title=stage.title,
                about=stage.about,
                state=stage.state,
                figures=[
                    FigureOut(key=f.key, label=f.label, value=f.value, unit=f.unit) for f in stage.figures
                ],
                findings=[FindingOut(state=f.state, words=f.words, advice=f.advice) for f in stage.findings],
                trend=stage.trend,
                history=stage.history,
            )
            for stage in found.stages
        ],
        processes=[
            ProcessOut(
                node=process.node,
                name=process.name,
                state=process.state,
                heard_at=process.heard_at,
                started_at=process.started_at,
                memory_bytes=process.memory_bytes,
                cpu_ratio=process.cpu_ratio,
            )
            for process in found.processes
        ],
        history_step_s=found.history_step_s,
    )
