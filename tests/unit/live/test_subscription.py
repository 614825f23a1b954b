"""Notifications as read, merged and bounded."""

import asyncio

import pytest

from sluiceway.live.contracts import BatchLoaded, CatalogChanged, LayoutSaved, Missed, OtherChange, decode
from sluiceway.live.service import StreamsEnded, Subscription


def batch(first: int, last: int, pipeline: int = 1, workspace: int = 1) -> BatchLoaded:
    time = f"2026-01-01T00:00:{last:02d}Z"
    return BatchLoaded(workspace, pipeline, f"p{pipeline}", first, last, last - first + 1, time, time, time)


def test_notifications_are_read_as_the_loader_sends_them() -> None:
    text = '{"t":"batch","w":1,"p":2,"s":"sales","seq":[3,5],"n":3,"min":"2026-01-01T00:00:00Z","max":null}'
    assert decode(text) == BatchLoaded(1, 2, "sales", 3, 5, 3, "2026-01-01T00:00:00Z", None, None)
    assert decode('{"t":"catalog","w":1,"p":2}') == CatalogChanged(1, 2)
    assert decode('{"t":"layout","w":1,"d":"ops","v":2,"c":"x"}') == LayoutSaved(1, "ops", 2, "x", None)
    assert decode('{"t":"keys","w":1}') == OtherChange("keys", {"t": "keys", "w": 1})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "nonsense", '{"t":"batch"}', '{"t":"layout","w":1}', '{"t":1}']
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_batches_that_waited_are_told_once() -> None:
    async def run() -> None:
        found = Subscription(1, None, 10)
        for change in (batch(1, 2), batch(1, 1, pipeline=2), batch(3, 7)):
            found.offer(change)
        one, two = await found.next(1)
        assert isinstance(one, BatchLoaded) and (one.first_seq, one.last_seq, one.rows) == (1, 7, 7)
        assert (one.min_event_time, one.max_event_time) == ("2026-01-01T00:00:02Z", "2026-01-01T00:00:07Z")
        assert two == batch(1, 1, pipeline=2)
        assert await found.next(0.01) == []

    asyncio.run(run())


def test_who_does_not_keep_up_is_told_to_read_again() -> None:
    async def run() -> None:
        found = Subscription(1, None, 4)
        for number in range(1, 10):
            found.offer(CatalogChanged(1, number))
        changes = await found.next(1)
        assert changes[0] == Missed() and len(changes) <= 4

    asyncio.run(run())


def test_only_the_own_workspace_and_pipeline_are_told() -> None:
    everything, one = Subscription(1, None, 4), Subscription(1, 2, 4)
    assert everything.wants(batch(1, 1)) and not everything.wants(batch(1, 1, workspace=2))
    assert one.wants(batch(1, 1, pipeline=2)) and not one.wants(batch(1, 1, pipeline=3))
    assert not one.wants(LayoutSaved(1, "ops", 1, "x", None)) and everything.wants(
        LayoutSaved(1, "o", 1, "x", None)
    )
    assert one.wants(Missed()) and not everything.wants(OtherChange("keys", {}))


def test_an_ended_subscription_ends_its_reader() -> None:
    async def run() -> None:
        found = Subscription(1, None, 2)
        for number in range(5):
            found.offer(CatalogChanged(1, number))
        found.end()
        with pytest.raises(StreamsEnded):
            await found.next(1)

    asyncio.run(run())
