"""Dashboards over HTTP: apply, edit, move, export; two people at once; permission."""

from typing import Any

SOURCE = """\
kind: Dashboard
name: board     # kept
title: Board
widgets:
  - id: total
    type: stat
    query: {pipeline: orders, measures: [{field: amount, agg: sum}]}
    layout: {x: 0, y: 0, w: 3, h: 2}
  - {id: words, type: text, text: hello}
"""
YAML = {"Content-Type": "text/yaml"}
MOVE = {"total": {"x": 4, "y": 0, "w": 4, "h": 2}}


def put(client: Any, source: str = SOURCE, **headers: str) -> Any:
    return client.put("/v1/dashboards/board", content=source.encode(), headers={**YAML, **headers})


def test_applying_exporting_and_warning(world: Any) -> None:
    client = world.person("analyst")
    made = put(client)
    assert made.status_code == 201 and made.json()["outcome"] == "created"
    assert made.json()["warnings"][0]["field"] == "widgets.0.query.pipeline"
    world.apply()
    again = put(client)
    assert (again.status_code, again.json()["outcome"], again.json()["warnings"]) == (200, "unchanged", [])
    assert client.get("/v1/dashboards/board/export").text == SOURCE
    found = client.get("/v1/dashboards/board")
    assert found.headers["etag"] == '"1"' and set(found.json()["layout"]) == {"total", "words"}
    assert found.json()["spec"]["widgets"][0]["query"]["measures"] == [{"field": "amount", "agg": "sum"}]
    listed = client.get("/v1/dashboards").json()["items"]
    assert [(d["slug"], d["widgets"], d["version"]) for d in listed] == [("board", 2, 1)]


def test_a_wrong_file_names_field_and_line(world: Any) -> None:
    answer = put(world.person("analyst"), SOURCE.replace("type: stat", "type: pie"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_dashboard")
    assert answer.json()["errors"][0]["field"] == "widgets.0.type"
    assert answer.json()["errors"][0]["line"] == 6
    other = put(world.person("analyst"), SOURCE.replace("name: board", "name: other"))
    assert other.json()["errors"][0]["field"] == "name"


def test_two_people_edit_one_dashboard(world: Any) -> None:
    world.apply()
    one, other = world.person("analyst"), world.person("editor")
    put(one)
    spec = one.get("/v1/dashboards/board").json()["spec"]
    first = one.put("/v1/dashboards/board", json={"version": 1, "spec": {**spec, "title": "Mine"}})
    assert first.json() == {"name": "board", "version": 2, "outcome": "updated", "warnings": []}
    late = other.put(
        "/v1/dashboards/board", json={"spec": {**spec, "title": "His"}}, headers={"If-Match": '"1"'}
    )
    assert (late.status_code, late.json()["code"], late.json()["version"]) == (409, "version_conflict", 2)
    unsaid = other.put("/v1/dashboards/board", json={"spec": spec})
    assert unsaid.status_code == 422 and unsaid.json()["errors"][0]["field"] == "version"
    assert other.delete("/v1/dashboards/board", headers={"If-Match": '"1"'}).status_code == 409
    assert other.delete("/v1/dashboards/board", headers={"If-Match": '"2"'}).status_code == 204
    assert other.get("/v1/dashboards/board").status_code == 404


def test_two_people_move_one_widget(world: Any) -> None:
    one, other = world.person("analyst"), world.person("editor")
    put(one)
    body = {"version": 1, "client_id": "tab-1", "layout": MOVE}
    assert one.put("/v1/dashboards/board/layout", json=body).json() == {"layout_version": 2}
    late = other.put("/v1/dashboards/board/layout", json={**body, "client_id": "tab-2"})
    assert (late.status_code, late.json()["layout_version"]) == (409, 2)
    assert late.json()["layout"]["total"] == MOVE["total"]
    assert other.get("/v1/dashboards/board").json()["layout"]["total"] == MOVE["total"]
    assert "x: 4" in other.get("/v1/dashboards/board/export").text
    unknown = one.put(
        "/v1/dashboards/board/layout", json={**body, "version": 2, "layout": {"x": MOVE["total"]}}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (422, "invalid_layout")
    wide = one.put(
        "/v1/dashboards/board/layout",
        json={**body, "version": 2, "layout": {"total": {"x": 9, "y": 0, "w": 9, "h": 1}}},
    )
    assert wide.status_code == 422


def test_creating_from_json_and_yaml(world: Any) -> None:
    client = world.person("analyst")
    spec = {"name": "board", "widgets": [{"id": "words", "type": "text", "text": "hi"}]}
    made = client.post("/v1/dashboards", json={"spec": spec})
    assert made.status_code == 201 and made.headers["location"] == "/v1/dashboards/board"
    assert made.json()["title"] == "board" and made.json()["layout"]["words"]["w"] == 6
    twice = client.post("/v1/dashboards", json={"spec": spec})
    assert (twice.status_code, twice.json()["code"]) == (409, "dashboard_exists")
    text = client.post(
        "/v1/dashboards", content=SOURCE.replace("name: board", "name: two").encode(), headers=YAML
    )
    assert text.status_code == 201
    assert client.get("/v1/dashboards/two/export").text == SOURCE.replace("name: board", "name: two")
    for body in ({}, {"spec": spec, "source": "x"}, {"spec": []}, []):
        answer = client.post("/v1/dashboards", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_dashboard"), body


def test_a_viewer_looks_and_does_not_touch(world: Any) -> None:
    put(world.person("analyst"))
    viewer = world.person("viewer")
    assert viewer.get("/v1/dashboards/board").status_code == 200
    assert put(viewer, SOURCE + "# mine\n").status_code == 403
    body = {"version": 1, "client_id": "tab-1", "layout": MOVE}
    assert viewer.put("/v1/dashboards/board/layout", json=body).status_code == 403


def test_another_workspace_has_its_own(world: Any) -> None:
    put(world.person("analyst"))
    stranger = world.person("owner", workspace_id=2)
    assert stranger.get("/v1/dashboards").json()["items"] == []
    assert stranger.get("/v1/dashboards/board").status_code == 404
    assert stranger.get("/v1/dashboards/board/export").status_code == 404
    assert stranger.delete("/v1/dashboards/board").status_code == 404
    body = {"version": 1, "client_id": "tab-1", "layout": MOVE}
    assert stranger.put("/v1/dashboards/board/layout", json=body).status_code == 404
    assert put(stranger).json()["outcome"] == "created"


def test_pages_of_dashboards(world: Any) -> None:
    client = world.person("analyst")
    for name in ("beta", "alpha", "gamma"):
        client.post("/v1/dashboards", json={"spec": {"name": name, "title": name.upper()}})
    first = client.get("/v1/dashboards?limit=2").json()
    assert [d["slug"] for d in first["items"]] == ["alpha", "beta"]
    rest = client.get(f"/v1/dashboards?limit=2&cursor={first['next_cursor']}").json()
    assert [d["slug"] for d in rest["items"]] == ["gamma"] and rest["next_cursor"] is None
