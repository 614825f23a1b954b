"""Links to dashboards over HTTP: made, opened, what they show and what not, and their end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluiceway.infra.clock import FixedClock
from tests.support.loaded import Loader

PIPELINE = """
kind: Pipeline
name: sales
event: {id: id, time: at}
fields:
  - {name: shop, type: string, role: dimension}
  - {name: customer, type: string}
  - {name: amount, type: number, role: measure, unit: EUR}
"""
BOARD = """\
kind: Dashboard
name: board
title: Board of sales
time: {last: 24h}
widgets:
  - id: total
    type: stat
    query: {pipeline: sales, measures: [{field: amount, agg: sum, as: total}]}
  - {id: words, type: text, text: hello}
"""
OTHER = BOARD.replace("name: board", "name: other").replace("id: total", "id: secret-total")
NOW = datetime.now(UTC)
TOTAL = {"pipeline": "sales", "measures": [{"field": "amount", "agg": "sum", "as": "total"}]}
DAY = {"last": "24h"}


@pytest.fixture
def board(world: Any) -> Any:
    """An editor of a workspace with sales of two shops and two dashboards of them."""
    loader = Loader(world.services.database, PIPELINE)
    loader.load(
        [
            {
                "id": str(n), "at": (NOW - timedelta(minutes=n)).isoformat(), "shop": "ab"[n % 2],
                "customer": f"c{n}", "amount": 10**n,
            }
            for n in range(4)
        ]
    )  # fmt: skip
    editor = world.person("editor")
    for source in (BOARD, OTHER):
        name = source.split("name: ")[1].split("\n")[0]
        put = editor.put(
            f"/v1/dashboards/{name}", content=source.encode(), headers={"Content-Type": "text/yaml"}
        )
        assert put.status_code == 201, put.text
    return editor


def made(editor: Any, **options: Any) -> dict[str, Any]:
    answer = editor.post("/v1/dashboards/board/links", json={"name": "wall", **options})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def opened(world: Any, token: str, password: str | None = None) -> Any:
    """A client that has opened the link."""
    answer = world.client().post("/v1/link-sessions", json={"token": token, "password": password})
    assert answer.status_code == 201, answer.text
    return world.client(headers={"Authorization": f"Bearer {answer.json()['access']}"})


def ask(viewer: Any, widget: str = "total", **changes: Any) -> Any:
    return viewer.post("/v1/link/query", json={"widget": widget, "query": {**TOTAL, "time": DAY, **changes}})


def test_whoever_has_the_link_sees_the_dashboard_and_its_numbers(world: Any, board: Any) -> None:
    link = made(board)
    assert link["url"].endswith(f"/link/{link['token']}") and link["info"]["state"] == "active"
    viewer = opened(world, link["token"])
    dashboard = viewer.get("/v1/link/dashboard").json()
    assert (dashboard["slug"], dashboard["title"], dashboard["fixed_time"]) == (
        "board",
        "Board of sales",
        False,
    )
    assert set(dashboard["layout"]) == {"total", "words"}
    answer = ask(viewer)
    assert (answer.status_code, answer.json()["rows"]) == (200, [[1111.0]]), answer.text
    info = board.get(f"/v1/links/{link['info']['id']}").json()
    assert (info["uses"], info["last_used_address"]) == (1, "127.0.0.1")
    assert "token" not in info and link["token"] not in board.get("/v1/links").text


def test_it_asks_its_widgets_queries_alone(world: Any, board: Any) -> None:
    viewer = opened(world, made(board)["token"])
    for widget, changes in (
        ("secret-total", {}),
        ("words", {}),
        ("total", {"dimensions": ["customer"]}),
        ("total", {"measures": [{"field": "amount", "agg": "max"}]}),
        ("total", {"filters": [{"field": "customer", "op": "eq", "value": "c1"}]}),
    ):
        answer = ask(viewer, widget, **changes)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_in_link"), answer.text
    rows = {"widget": "total", "query": {"pipeline": "sales", "rows": ["customer"]}}
    assert viewer.post("/v1/link/query", json=rows).status_code == 403


def test_it_opens_nothing_else_of_the_api(world: Any, board: Any) -> None:
    link = made(board)
    viewer = opened(world, link["token"])
    access = viewer.http.headers["authorization"].removeprefix("Bearer ")
    for path in ("/v1/dashboards/board", "/v1/pipelines", "/v1/me", "/v1/links", "/v1/keys"):
        assert viewer.get(path).status_code == 401, path
    assert viewer.post("/v1/query", json={**TOTAL, "time": DAY}).status_code == 401
    assert world.client().get(f"/v1/pipelines/sales/stream?token={access}").status_code == 401
    assert world.client().get(f"/v1/live?token={access}").status_code == 401
    raw = world.client(headers={"Authorization": f"Bearer {link['token']}"})
    assert raw.get("/v1/link/dashboard").status_code == 401
    key = world.program("manage").get("/v1/link/dashboard")
    assert (key.status_code, key.json()["code"]) == (403, "not_in_link")
    assert board.get("/v1/link/dashboard").status_code == 401


def test_filters_are_added_and_cannot_be_taken_away(world: Any, board: Any) -> None:
    shop = {"field": "shop", "op": "eq", "value": "a"}
    viewer = opened(world, made(board, filters=[shop])["token"])
    assert ask(viewer).json()["rows"] == [[101.0]]
    assert ask(viewer, filters=[shop]).status_code == 403
    wrong = board.post(
        "/v1/dashboards/board/links",
        json={"name": "w", "filters": [{"field": "colour", "op": "eq", "value": 1}]},
    )
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "filters.0"), wrong.text
    assert board.get("/v1/links").json()["items"][0]["name"] == "wall"


def test_a_fixed_range_is_the_only_one(world: Any, board: Any) -> None:
    begin = (NOW - timedelta(minutes=1, seconds=30)).isoformat()
    end = (NOW + timedelta(minutes=5)).isoformat()
    viewer = opened(world, made(board, time={"from": begin, "to": end})["token"])
    assert viewer.get("/v1/link/dashboard").json()["fixed_time"] is True
    assert [ask(viewer, time=t).json()["rows"] for t in (DAY, None)] == [[[11.0]], [[11.0]]]


def test_a_password_is_asked_for_and_guessing_is_slowed_down(world: Any, board: Any) -> None:
    token = made(board, password="open sesame")["token"]
    client = world.client()

    def tried(password: str | None) -> Any:
        return client.post("/v1/link-sessions", json={"token": token, "password": password})

    assert (tried(None).status_code, tried(None).json()["code"]) == (401, "link_password_required")
    wrong = tried("open barley")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_link_password")
    assert ask(opened(world, token, "open sesame")).status_code == 200
    codes = [tried("open barley").status_code for _ in range(8)]
    assert 429 in codes and tried("open sesame").status_code == 429
    stored = world.execute("SELECT password_hash FROM app.dashboard_links").scalar_one()
    assert stored.startswith("$argon2id$")
    assert "sesame" not in board.get("/v1/links").text


def test_revoked_it_shows_nothing_also_where_it_is_open(world: Any, board: Any) -> None:
    link = made(board)
    viewer = opened(world, link["token"])
    assert ask(viewer).status_code == 200
    gone = board.delete(f"/v1/links/{link['info']['id']}").json()
    assert gone["state"] == "revoked"
    assert (ask(viewer).status_code, ask(viewer).json()["code"]) == (404, "link_not_found")
    assert viewer.get("/v1/link/dashboard").status_code == 404
    again = world.client().post("/v1/link-sessions", json={"token": link["token"]})
    assert (again.status_code, again.json()["code"]) == (404, "link_not_found")


def test_it_ends_when_it_was_to(world: Any, board: Any) -> None:
    clock = FixedClock(NOW)
    world.stand_at(clock)
    link = made(board, expires_at=(NOW + timedelta(hours=1)).isoformat())
    viewer = opened(world, link["token"])
    clock.at += timedelta(hours=1)
    assert ask(viewer).status_code in (401, 404)
    assert world.client().post("/v1/link-sessions", json={"token": link["token"]}).status_code == 404
    past = board.post(
        "/v1/dashboards/board/links", json={"name": "w", "expires_at": (NOW - timedelta(1)).isoformat()}
    )
    assert (past.status_code, past.json()["errors"][0]["field"]) == (422, "expires_at")


def test_what_opening_gave_ends_after_twelve_hours(world: Any, board: Any) -> None:
    clock = FixedClock(NOW)
    world.stand_at(clock)
    viewer = opened(world, made(board)["token"])
    clock.at += timedelta(hours=12)
    assert ask(viewer).json()["code"] == "link_access_ended"


def test_deleting_the_dashboard_ends_its_links(world: Any, board: Any) -> None:
    link = made(board)
    viewer = opened(world, link["token"])
    assert board.delete("/v1/dashboards/board").status_code == 204
    world.services.extra.pop("links", None)
    assert viewer.get("/v1/link/dashboard").status_code == 404
    assert world.client().post("/v1/link-sessions", json={"token": link["token"]}).status_code == 404


def test_a_revoked_keys_links_end_with_it(world: Any, board: Any) -> None:
    admin = world.person("admin")
    key = admin.post("/v1/keys", json={"name": "k", "scopes": ["manage"]}).json()
    program = world.client(headers={"Authorization": f"Bearer {key['key']}"})
    link = made(program)
    assert link["info"]["made_by"] == f"key:{key['info']['id']}"
    admin.delete(f"/v1/keys/{key['info']['id']}")
    assert world.client().post("/v1/link-sessions", json={"token": link["token"]}).status_code == 404


def test_who_may_make_see_and_revoke_links(world: Any, board: Any) -> None:
    link_id = made(board)["info"]["id"]
    for client in (world.person("analyst"), world.person("viewer"), world.program("read")):
        assert client.post("/v1/dashboards/board/links", json={"name": "w"}).status_code == 403
        assert client.get("/v1/links").status_code == 403
        assert client.delete(f"/v1/links/{link_id}").status_code == 403
    other = world.person("editor", workspace_id=2)
    assert other.get("/v1/links").json()["items"] == []
    assert other.get(f"/v1/links/{link_id}").status_code == 404
    assert other.delete(f"/v1/links/{link_id}").status_code == 404
    assert other.post("/v1/dashboards/board/links", json={"name": "w"}).status_code == 404


def test_tokens_that_are_none(world: Any) -> None:
    client, token = world.client(), "A" * 43
    for text in ("", "x", "sll_", f"sll_{token}", f"slw_{token}", "sll_" + "é" * 43, f"sll_{token}{token}"):
        answer = client.post("/v1/link-sessions", json={"token": text})
        assert answer.status_code in (404, 422), answer.text
        page = client.get(f"/link/{text or '-'}")
        assert page.status_code == 404 and "This link does not work" in page.text


def test_the_page_asks_for_the_password_and_then_holds_the_access(
    world: Any, board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.routes import link_pages

    monkeypatch.setattr(link_pages, "_script", lambda: "/assets/canvas/link-ABCDEFGH.js")
    token = made(board, password="open sesame")["token"]
    client = world.client()
    form = client.get(f"/link/{token}")
    assert form.status_code == 200 and 'type="password"' in form.text and "sla_" not in form.text
    wrong = client.post(f"/link/{token}", data={"password": "nonsense"})
    assert wrong.status_code == 401 and "The password is wrong" in wrong.text
    page = client.post(f"/link/{token}", data={"password": "open sesame"})
    assert page.status_code == 200 and "Board of sales" in page.text
    access = page.text.split('data-access="')[1].split('"')[0]
    assert access.startswith("sla_") and token not in page.text
    headers = page.headers
    assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
    assert "noindex" in headers["x-robots-tag"] and "set-cookie" not in headers
    assert "'unsafe-eval'" not in headers["content-security-policy"] and "<script>" not in page.text


def test_openings_and_wrong_passwords_are_in_the_audit_log(world: Any, board: Any) -> None:
    link = made(board, password="open sesame")
    world.client().post("/v1/link-sessions", json={"token": link["token"], "password": "nonsense"})
    opened(world, link["token"], "open sesame")
    rows = world.execute(
        "SELECT action, content FROM app.audit_entries WHERE action LIKE 'link.%' ORDER BY seq"
    ).all()
    assert [row.action for row in rows] == ["link.created", "link.refused", "link.opened"]
    assert not any(word in row.content for row in rows for word in ("sesame", "nonsense", link["token"]))
