"""Server-sent events: the rows of a pipeline as they are committed, and changes of a workspace."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Response

from api.deps import Services
from api.errors import problem_responses
from api.streams.access import Follower, broker_of, feed_of, require_follower
from api.streams.sse import KEEP_ALIVE, KEEP_ALIVE_S, MAX_AGE_S, MEDIA_TYPE, EventStream, encode
from sluiceway.identity.permissions import Permission
from sluiceway.live.contracts import (
    BatchLoaded,
    CatalogChanged,
    Change,
    DashboardChanged,
    LayoutSaved,
    Missed,
)
from sluiceway.live.delivery import delivered
from sluiceway.live.errors import InvalidEventId
from sluiceway.live.rows import Followed, Idle, Reset, RowFeed, follow_rows
from sluiceway.live.service import LiveBroker

router = APIRouter(prefix="/v1", tags=["live"])

MayFollow = Annotated[Follower, Depends(require_follower(Permission.DATA_READ))]
PACE_S = 0.05
"""Between two looks for changes: the first goes out at once, a busy pipeline's are told 20 times a second."""
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Events, for ever.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
    **problem_responses((400, 401, 403, 503)),
}


@router.get(
    "/pipelines/{pipeline}/stream",
    summary="Follow a pipeline's rows",
    response_class=Response,
    responses=_EVENTS,
)
async def stream_rows(
    services: Services,
    follower: MayFollow,
    pipeline: Annotated[str, Path(max_length=63)],
    last_event_id: Annotated[str | None, Header(description="Go on after this durable sequence.")] = None,
    after: Annotated[
        str | None, Query(alias="last_event_id", description="The same, for clients that send no header.")
    ] = None,
) -> Response:
    """`row` events with the durable sequence as `id`; `reset` where history has gone."""
    follower.check(pipeline)
    after_seq = _sequence(last_event_id or after)
    broker, feed = broker_of(services), feed_of(services)
    followed = await feed.find(follower.access, pipeline)
    if after_seq is None:  # before the answer begins: whoever has it is told of all that is committed then
        after_seq = await feed.last_seq(followed)
    return EventStream(
        _row_events(broker, feed, followed, after_seq),
        stopping=services.stopping,
        max_age_s=follower.seconds_left(services.clock.now(), MAX_AGE_S),
        still=follower.still,
    )


@router.get("/live", summary="Follow changes", response_class=Response, responses=_EVENTS)
async def stream_changes(services: Services, follower: MayFollow) -> Response:
    """`change`: rows were committed. `layout`, `dashboard`: one was changed. `reset`: read all again."""
    return EventStream(
        _change_events(broker_of(services), follower),
        stopping=services.stopping,
        max_age_s=follower.seconds_left(services.clock.now(), MAX_AGE_S),
        still=follower.still,
    )


async def _row_events(
    broker: LiveBroker, feed: RowFeed, followed: Followed, after_seq: int | None
) -> AsyncGenerator[bytes, None]:
    async for event in follow_rows(broker, feed, followed, after_seq=after_seq, idle_s=KEEP_ALIVE_S):
        if isinstance(event, Idle):
            yield KEEP_ALIVE
        elif isinstance(event, Reset):
            yield encode("reset", orjson.dumps(event.as_dict()), event.next_seq - 1)
        else:
            yield b"".join([encode("row", row.json, row.seq) for row in event.rows])
            if event.after is not None:
                delivered(event.after, "rows")


async def _change_events(broker: LiveBroker, follower: Follower) -> AsyncGenerator[bytes, None]:
    with broker.subscribe(follower.access.workspace_id) as subscription:
        while True:
            changes = await subscription.next(KEEP_ALIVE_S)
            if not changes:
                yield KEEP_ALIVE
            for change in changes:
                if (event := _change_event(change, follower)) is not None:
                    yield event
                    if isinstance(change, BatchLoaded):
                        delivered(change, "changes")
            await asyncio.sleep(PACE_S)


def _change_event(change: Change, follower: Follower) -> bytes | None:
    if isinstance(change, Missed):
        return encode("reset", b'{"reason":"missed"}')
    if isinstance(change, BatchLoaded):
        if follower.pipelines is not None and change.pipeline not in follower.pipelines:
            return None
        document: dict[str, Any] = {
            "pipeline": change.pipeline,
            "seq": change.last_seq,
            "rows": change.rows,
            "min": change.min_event_time,
            "max": change.max_event_time,
            "at": change.at,
        }
        return encode("change", orjson.dumps(document))
    if follower.pipelines is not None:
        return None
    if isinstance(change, LayoutSaved):
        document = {
            "dashboard": change.dashboard,
            "layout_version": change.layout_version,
            "client_id": change.client_id,
            "layout": change.layout,
        }
        return encode("layout", orjson.dumps(document))
    if isinstance(change, DashboardChanged):
        return encode("dashboard", orjson.dumps({"dashboard": change.dashboard, "version": change.version}))
    if isinstance(change, CatalogChanged):
        return encode("catalog", orjson.dumps({"pipeline_id": change.pipeline_id}))
    return None


def _sequence(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidEventId("Last-Event-ID should be a whole number: the `id` of an event of this stream.")
    return int(text)
