"""Pages of other sites that send events: only those that the pipeline names, on both ways."""

import time
from typing import Any

import httpx
import pytest

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.schema import apply_pipeline

SHOP = "https://shop.example.com"
VISITS = f"""\
name: visits
source: {{allowed_origins: ["{SHOP}", "http://localhost:3001"]}}
fields:
  - {{name: page, type: string}}
"""
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture
def visits(serve: Any, database: Database) -> Any:
    apply_pipeline(database, 1, VISITS)
    return serve()


def preflight(running: Any, origin: str, pipeline: str = "visits", query: str = "") -> httpx.Response:
    address = f"/v1/pipelines/{pipeline}/events{query}"
    answer: httpx.Response = running.client.options(address, headers={"Origin": origin, **ASKS})
    return answer


def cross_origin(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control-")}


def test_a_page_of_a_named_site_asks_and_sends(visits: Any) -> None:
    answer = preflight(visits, SHOP)
    assert answer.status_code == 200 and answer.content == b"" and answer.headers["vary"] == "origin"
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-methods"] == "POST"
    offered = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "idempotency-key"} <= set(offered)
    sent = visits.post(b'{"page": "/"}', "every", "visits", origin=SHOP)
    assert sent.status_code == 202 and sent.json()["accepted"] == 1
    assert sent.headers["access-control-allow-origin"] == SHOP and sent.headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in {**answer.headers, **sent.headers}
    assert [record.events for record in visits.records()] == [1]


def test_the_page_can_read_what_was_wrong(visits: Any) -> None:
    refused = visits.post(b"{", "every", "visits", origin=SHOP)
    assert refused.status_code == 400 and refused.headers["access-control-allow-origin"] == SHOP
    assert "retry-after" in refused.headers["access-control-expose-headers"]
    assert visits.records() == []


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "https://shop.example.com.evil.example", "https://shop.example.com:444",
        "http://shop.example.com", "https://xshop.example.com", "null", "https://shop.example.com/",
    ],
)  # fmt: skip
def test_pages_of_other_sites_neither_ask_nor_send(visits: Any, origin: str) -> None:
    asked = preflight(visits, origin)
    assert (asked.status_code, asked.json()["code"]) == (405, "method_not_allowed")
    sent = visits.post(b'{"page": "/"}', "every", "visits", origin=origin)
    assert (sent.status_code, sent.json()["code"]) == (403, "origin_not_allowed")
    assert cross_origin(asked) == cross_origin(sent) == {} and visits.records() == []


@pytest.mark.parametrize("pipeline", ["flights", "nothing", "a'b", "visits/../flights"])
def test_a_pipeline_without_sites_and_one_that_is_not_there_look_the_same(visits: Any, pipeline: str) -> None:
    answer = preflight(visits, SHOP, pipeline)
    assert answer.status_code in (404, 405) and cross_origin(answer) == {}
    if pipeline in ("flights", "nothing"):
        assert answer.json()["code"] == "method_not_allowed"


def test_a_pipeline_without_sites_takes_what_has_a_key_and_tells_pages_nothing(visits: Any) -> None:
    sent = visits.post(b'{"id": 1}', "good", "flights", origin="https://any.example")
    assert sent.status_code == 202 and cross_origin(sent) == {}


def test_a_preflight_is_of_the_workspace_that_the_address_names(visits: Any, database: Database) -> None:
    with database.engine(Role.OWNER).begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (1, 'other', 'Other')"
        )
    apply_pipeline(database, 2, VISITS.replace(SHOP, "https://other.example"))
    assert preflight(visits, "https://other.example", query="?workspace=other").status_code == 200
    assert preflight(visits, "https://other.example").status_code == 405
    assert preflight(visits, SHOP, query="?workspace=other").status_code == 405


def test_a_preflight_proves_nothing_of_who_sends(visits: Any) -> None:
    assert preflight(visits, SHOP).status_code == 200
    sent = visits.post(b'{"page": "/"}', None, "visits", origin=SHOP)
    assert (sent.status_code, sent.json()["code"]) == (401, "missing_key")
    assert visits.records() == []


def test_taking_a_site_off_the_list_holds_at_once(visits: Any, database: Database) -> None:
    assert preflight(visits, SHOP).status_code == 200
    apply_pipeline(database, 1, VISITS.replace(f'"{SHOP}", ', ""))
    deadline = time.monotonic() + 30
    while preflight(visits, SHOP).status_code == 200:
        assert time.monotonic() < deadline, "the route does not hear of the change"
    assert preflight(visits, "http://localhost:3001").status_code == 200
