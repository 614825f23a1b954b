"""A pipeline's limits and what was refused, as people see it."""

import psycopg

from sluiceway.infra.database import Role
from sluiceway.ingestion.limits.refusals import DatabaseRefusals, RefusalBook, RefusalKeeper

LIMITED = """\
name: limited
fields: [{name: amount, type: number}]
limits: {events_per_s: 5, burst: 20}
"""


def test_refusals_of_all_processes_are_summed(world) -> None:
    admin = world.person("admin")
    world.apply(LIMITED)
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        number = conn.exec_driver_sql("SELECT id FROM app.pipelines WHERE slug = 'limited'").scalar_one()
    empty = admin.get("/v1/pipelines/limited/intake").json()
    assert (empty["requests"], empty["refused"], empty["limits"]["burst"]) == (0, [], 20)
    for _ in range(2):  # two processes
        book = RefusalBook()
        keeper = RefusalKeeper(book, DatabaseRefusals(world.services.database))
        for code in ("rate_limited", "rate_limited", "loader_behind"):
            book.note(number, code)
        book.note(999_999, "rate_limited")  # a pipeline that is gone meanwhile
        keeper.keep()
        keeper.keep()  # nothing new: nothing is counted twice
        assert book.by_code["rate_limited"] == 3
    found = world.program("read").get("/v1/pipelines/limited/intake?minutes=60").json()
    assert found["requests"] == 6
    assert admin.get("/v1/pipelines/limited").json()["status"]["held_back"] == 6
    (listed,) = admin.get("/v1/pipelines").json()["items"]
    assert listed["status"]["held_back"] == 6
    assert {r["code"]: r["requests"] for r in found["refused"]} == {"rate_limited": 4, "loader_behind": 2}
    assert found["refused"][0]["last_minute"]


def test_what_cannot_be_kept_is_kept_later(world) -> None:
    admin = world.person("admin")
    world.apply(LIMITED)
    real = DatabaseRefusals(world.services.database)
    away = True

    def keep(counts) -> None:
        if away:
            raise psycopg.OperationalError("away")
        real(counts)

    book = RefusalBook()
    keeper = RefusalKeeper(book, keep)
    book.note(1, "spool_full")
    keeper.keep()
    away = False
    book.note(1, "spool_full")
    keeper.start()
    keeper.stop()  # keeps once more at the end
    assert admin.get("/v1/pipelines/limited/intake").json()["requests"] == 2


def test_anonymous_and_other_workspaces_see_nothing(world) -> None:
    world.apply(LIMITED)
    assert world.client().get("/v1/pipelines/limited/intake").status_code == 401
    stranger = world.person("owner", workspace_id=2)
    assert stranger.get("/v1/pipelines/limited/intake").status_code == 404
    assert world.program("ingest").get("/v1/pipelines/limited/intake").status_code == 403
    assert world.program("read").get("/v1/pipelines/nothing/intake").status_code == 404
