"""Rules on rows that are followed live: the same lock, and no word about rows that are not theirs."""

import asyncio
from contextlib import aclosing
from typing import Any

import orjson

from sluiceway.infra.database import Role
from sluiceway.live.rows import Page, Reset, RowFeed, Rows, follow_rows
from sluiceway.live.service import LiveBroker
from sluiceway.rules import service
from tests.support.ruled import EU, NOW, OWNER, US, Ruled, eyes


def seqs(page: Page) -> list[int]:
    return [row.seq for row in page.rows]


def data(page: Page) -> list[dict[str, Any]]:
    return [orjson.loads(row.json) for row in page.rows]


def test_each_follower_gets_their_own_rows(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")

    async def work() -> None:
        feed = RowFeed(ruled.database)
        followers = [await feed.find(access, "sales") for access in (EU, US, OWNER, eyes())]
        eu, us, owner, nobody = await asyncio.gather(*(feed.after(f, 0) for f in followers))
        assert {row["region"] for row in data(eu)} == {"EU"} and {row["region"] for row in data(us)} == {"US"}
        assert len(owner.rows) == 12 and not nobody.rows
        assert len(eu.rows) == len(us.rows) == 4 and eu.first == us.first == nobody.first == 1

    asyncio.run(work())


def test_masked_columns_are_masked_on_the_way(ruled: Ruled) -> None:
    ruled.rule(
        masks=[
            {"field": "email", "as": "hash"}, {"field": "tags", "as": "hide"},
            {"field": "region", "as": "partial", "first": 1}, {"field": "event_id", "as": "hide"},
        ]
    )  # fmt: skip

    async def work() -> None:
        feed = RowFeed(ruled.database)
        shown = data(await feed.after(await feed.find(eyes(), "sales"), 0))
        assert "tags" not in shown[0] and "event_id" not in shown[0]
        assert b"@" not in orjson.dumps(shown) and {row["region"] for row in shown} == {"E…", "U…", None}
        plain = data(await feed.after(await feed.find(OWNER, "sales"), 0))
        assert plain[0]["email"] == "person0@example.com" and plain[0]["tags"] == {"n": 0}
        # The same in a query: whoever follows and asks can put both together.
        asked = ruled.ask(eyes(), rows=["email", "seq"], time={"last": "30d"})
        assert {seq: email for email, seq in asked.rows} == {row["seq"]: row["email"] for row in shown}

    asyncio.run(work())


def test_pages_are_not_handed_to_others_when_rules_change(ruled: Ruled) -> None:
    async def work() -> None:
        feed = RowFeed(ruled.database)
        owner, eu, us = [await feed.find(access, "sales") for access in (OWNER, EU, US)]
        assert len((await feed.after(eu, 0)).rows) == 12  # no rule yet: one page for all
        await asyncio.to_thread(ruled.rule, rows="region in user.regions")
        # They share a read that began before they knew; who reads first is the owner.
        pages = await asyncio.gather(*(feed.after(f, 1) for f in (owner, eu, us)))
        assert [len(page.rows) for page in pages] == [11, 3, 4]
        assert {row["region"] for row in data(pages[1])} == {"EU"}
        assert {row["region"] for row in data(pages[2])} == {"US"}
        await asyncio.to_thread(service.delete_rule, ruled.database, 1, "regions")
        assert [len((await feed.after(f, 2)).rows) for f in (eu, us, owner)] == [10, 10, 10]

    asyncio.run(work())


def test_rows_of_others_are_no_gap_and_lost_ones_are(ruled: Ruled) -> None:
    ruled.rule(rows="region in user.regions")

    async def work() -> None:
        broker = LiveBroker(ruled.database)
        await broker.start()
        feed = RowFeed(ruled.database)
        followed = await feed.find(US, "sales")
        try:
            async with asyncio.timeout(60):
                await broker.connected.wait()
                stream = follow_rows(broker, feed, followed, after_seq=0, idle_s=30)
                async with aclosing(stream) as events:  # type: ignore[type-var]
                    first = await anext(events)
                    assert isinstance(first, Rows) and [row.seq for row in first.rows] == [2, 5, 8, 11]
                    at = NOW.isoformat()
                    others = [{"id": f"x{n}", "at": at, "region": "EU", "amount": n} for n in range(5)]
                    await asyncio.to_thread(ruled.loader.load, others)
                    mine = [{"id": "mine", "at": at, "region": "US", "amount": 1}]
                    await asyncio.to_thread(ruled.loader.load, mine)
                    then = await anext(events)
                    assert isinstance(then, Rows) and [row.seq for row in then.rows] == [18]
                with ruled.database.connect(Role.OWNER) as connection:
                    connection.execute("DELETE FROM silver.sales WHERE seq <= 6")
                stream = follow_rows(broker, feed, followed, after_seq=1, idle_s=30)
                async with aclosing(stream) as events:  # type: ignore[type-var]
                    assert await anext(events) == Reset("gone", 1, 7)
                    rows = await anext(events)
                    assert isinstance(rows, Rows) and [row.seq for row in rows.rows] == [8, 11, 18]
        finally:
            await broker.stop()

    asyncio.run(work())
