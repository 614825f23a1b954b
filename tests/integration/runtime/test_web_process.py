"""The web process as the supervisor starts it: it serves, and it stops in time although streams are open."""

import socket
from pathlib import Path

import httpx

from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from tests.support.web_process import PASSWORD, Web, start_web, stop_web


def test_it_serves_everything_on_one_port_and_stops_with_streams_open(web: Web) -> None:
    with httpx.Client(base_url=web.address, timeout=10) as client:
        key = {"Authorization": f"Bearer {web.key}"}
        sent = client.post("/v1/pipelines/orders/events", json={"id": 1, "amount": 2.5}, headers=key)
        assert (sent.status_code, sent.json()["accepted"]) == (202, 1)
        assert client.get("/v1/pipelines", headers=key).json()["items"][0]["slug"] == "orders"
        assert client.get("/v1/nothing").json()["code"] == "not_found"
        assert client.get("/").headers["location"] == "/sign-in"
        form = {"email": "ada@example.com", "password": PASSWORD, "next": "/pipelines"}
        assert client.post("/sign-in", data=form).headers["location"] == "/pipelines"
        page = client.get("/pipelines")
        assert page.status_code == 200 and "<title>Streamlit</title>" in page.text
        assert "sha256-" in page.headers["content-security-policy"]
        with socket.create_connection(("127.0.0.1", httpx.URL(web.address).port or 0), timeout=60) as odd:
            odd.sendall(b"this is not HTTP\r\n\r\n")
            assert odd.recv(100).startswith(b"HTTP/1.1 400")
        figures = client.get("/metrics").text
        assert (
            'sluiceway_http_refused_total{code="malformed_request",node="test",process="web"} 1.0' in figures
        )
        assert 'sluiceway_ingest_requests_total{code="accepted",node="test",process="web"} 1.0' in figures
        assert 'sluiceway_spool_records_total{node="test",process="web"} 1.0' in figures
        with client.stream("GET", "/v1/live", headers=key) as stream:
            assert stream.status_code == 200
            code = stop_web(web)
            ended = list(stream.iter_raw())
        assert code == 0, web.log.read_text()
        assert isinstance(ended, list)


def test_an_ingest_process_takes_events_and_nothing_else(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    web = start_web(settings, database, tmp_path / "ingest.log", "--ingest-only")
    try:
        key = {"Authorization": f"Bearer {web.key}"}
        sent = httpx.post(f"{web.address}/v1/pipelines/orders/events", json={"id": 1}, headers=key)
        assert sent.status_code == 202
        assert httpx.get(f"{web.address}/v1/pipelines", headers=key).status_code == 404
        assert stop_web(web) == 0
    finally:
        if web.process.poll() is None:
            web.process.kill()
            web.process.wait()
