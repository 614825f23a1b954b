"""A sender's whole life through the deployed web process: secret, handshake, deliveries, change, end."""

import time
from typing import Any

import httpx

from sluiceway.infra.database import Database
from sluiceway.warehouse.schema import apply_pipeline
from tests.support import signers
from tests.support.web_process import PASSWORD, Web

SIGNED = """\
name: deliveries
source: {verify: {scheme: github, challenge: {type: meta}}}
fields: [{name: kind, type: string}]
"""
EVENTS = "/v1/pipelines/deliveries/events"
SECRETS = "/v1/pipelines/deliveries/secrets"
BODY = b'{"kind":"push"}'


def test_a_senders_whole_life(web: Web, database: Database) -> None:
    apply_pipeline(database, 1, SIGNED)
    with httpx.Client(base_url=web.address, timeout=30) as client:
        headers = {"X-Sluiceway-Request": "1", "Origin": web.address}
        answer = client.post(
            "/v1/session", json={"email": "ada@example.com", "password": PASSWORD}, headers=headers
        )
        assert answer.status_code == 201, answer.text

        def add(**values: Any) -> dict[str, Any]:
            answer = client.post(SECRETS, json=values, headers=headers)
            assert answer.status_code == 201, answer.text
            found: dict[str, Any] = answer.json()
            return found

        def deliver(secret: str) -> httpx.Response:
            # Without the browser's cookie: a sender has none.
            return httpx.post(
                web.address + EVENTS, content=BODY, timeout=30,
                headers={"content-type": "application/json", **signers.github(secret, BODY)},
            )  # fmt: skip

        def until(secret: str, status: int) -> httpx.Response:
            deadline = time.monotonic() + 60
            while (answer := deliver(secret)).status_code != status:
                assert answer.status_code in (202, 401) and time.monotonic() < deadline, answer.text
                time.sleep(0.02)
            return answer

        assert deliver("x").json()["code"] == "sender_secret_missing"
        first = add(name="first")
        add(value="verify-4711", purpose="challenge")
        until(first["value"], 202)
        asks = {"hub.mode": "subscribe", "hub.verify_token": "verify-4711", "hub.challenge": "1158201444"}
        hello = httpx.get(web.address + EVENTS, params=asks, timeout=30)
        assert (hello.status_code, hello.text) == (200, "1158201444")
        assert httpx.get(web.address + EVENTS, timeout=30).json()["code"] == "challenge_refused"
        second = add(name="second")
        until(second["value"], 202)
        assert deliver(first["value"]).status_code == 202
        assert client.delete(f"{SECRETS}/{first['info']['id']}", headers=headers).status_code == 204
        assert until(first["value"], 401).json()["code"] == "signature_invalid"
        assert deliver(second["value"]).status_code == 202
    log = web.log.read_text()
    assert not any(secret in log for secret in (first["value"], second["value"], "verify-4711"))
