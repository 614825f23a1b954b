"""What nobody thought of: generated requests to the event route, and requests damaged byte by byte.

`FUZZ_CASES` says how many of the first kind (300 by default; the claim is made for 50,000); a tenth of it,
and at least 200, of the second. `FUZZ_SEED` is where their seeds begin.
"""

import gzip
import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import create_app
from api.connection_guard import GuardLimits
from api.openapi import EVENT_ERRORS, EVENTS_PATH
from api.services import ApiServices
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings
from tests.support.event_server import edge
from tests.support.raw_http import Reader, is_taken, request

pytestmark = pytest.mark.faults

CASES = int(os.environ.get("FUZZ_CASES", "300"))
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
# Hypothesis remembers every case of a run: many runs of so many stay quick, each with a seed of its own.
RUN = 1000
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip


FUZZING = hypothesis.settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def fuzz(cases: int, test: Callable[..., None], **strategies: st.SearchStrategy[Any]) -> None:
    """Run `test` on at least so many cases; the same ones every time."""
    for seed in range(-(-cases // RUN)):
        count = min(RUN, cases - seed * RUN)
        run = hypothesis.settings(FUZZING, max_examples=count)(given(**strategies)(test))
        hypothesis.seed(FIRST_SEED + seed)(run)()


@pytest.fixture
def way() -> str:
    return "plain"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests is no database that is away."""
    monkeypatch.setattr("sluiceway.ingestion.access.ASK_S", 60.0)


@pytest.mark.timeout(0 if CASES > 1000 else 180)
def test_generated_requests(
    running, database: Database, settings: Settings, secret_key: SecretKey, capsys: pytest.CaptureFixture[str]
) -> None:
    """No 5xx, only documented statuses, only problem details, whatever is sent; and the route still works."""
    services = ApiServices(settings=settings, database=database, key=secret_key)
    document = create_app(services, events=running.route).openapi()
    # The route's own schema alone: its callers know nothing of the rest.
    only = {**document, "paths": {EVENTS_PATH: document["paths"][EVENTS_PATH]}}
    schema = schemathesis.openapi.from_dict(only)
    operation = schema[EVENTS_PATH]["POST"]
    good, bad = (operation.as_strategy(mode) for mode in GenerationMode)
    # Mostly the body: what is wrong with an address or a header takes long to think of, and is soon said.
    fixed: dict[str, Any] = {"path_parameters": {"pipeline": "flights"}, "headers": {}, "query": {}}
    body = operation.as_strategy(**fixed)
    bad_body = operation.as_strategy(GenerationMode.NEGATIVE, **fixed)
    keys = st.sampled_from(["good", "good", "good", "every", "reader", "expired", "slw_nobody", ""])
    pipelines = st.sampled_from(["flights", "flights", "orders", None])
    found: Counter[str] = Counter()

    def test(case: Any, key: str, pipeline: str | None, encoding: str) -> None:
        headers = {"Authorization": f"Bearer {running.keys.get(key, key)}"} if key else {}
        if pipeline is not None:
            case.path_parameters["pipeline"] = pipeline
        if encoding:
            headers["Content-Encoding"] = encoding
        response = case.call(base_url=running.url, session=session, headers=headers, timeout=60)
        code = response.json().get("code") if response.status_code >= 400 else None
        found[str(code or response.status_code)] += 1
        if response.status_code == 404 and code is None:
            return
        case.validate_response(response, checks=CHECKS, headers=headers)

    with requests.Session() as session:
        fuzz(
            CASES, test, case=st.one_of(body, body, body, body, bad_body, good, bad), key=keys,
            pipeline=pipelines, encoding=st.sampled_from([""] * 8 + ["gzip", "zstd"]),
        )  # fmt: skip
    with capsys.disabled():
        print(f"\n{sum(found.values())} generated requests: {dict(found.most_common())}")
    assert sum(found.values()) >= CASES
    assert not [code for code in found if code in ("internal", "500", "503")]
    assert running.post(b"{}").status_code == 202
    assert running.route.in_flight_bytes == 0


GOOD = [
    request(b'{"n":1}', "content-type: application/json"),
    request(b'{"n":1}\n{"n":2}', "content-type: application/x-ndjson"),
    request(gzip.compress(b'{"n":1}'), "content-encoding: gzip"),
    request(b"7\r\n" + b'{"n":1}' + b"\r\n0\r\n\r\n", "transfer-encoding: chunked", length=False),
    request(b'{"n":1}', "expect: 100-continue"),
    request(b"a=1&b=2", "content-type: application/x-www-form-urlencoded"),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One or two requests with bytes cut off, out, changed, put in or repeated."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=2))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        size = draw(st.integers(1, 40))
        match draw(st.sampled_from(["cut", "drop", "change", "insert", "repeat", "line"])):
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + size]
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=size))
            case "repeat":
                data[at:at] = data[at : at + size] * draw(st.integers(1, 300))
            case "line":
                data[at:at] = draw(st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b"\0", b": ", b"\r\n "]))
    return bytes(data)


@pytest.mark.timeout(0 if CASES > 1000 else 180)
def test_damaged_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server answers with less than 500 or closes, and never hangs; the next request is taken."""
    found: Counter[str] = Counter()
    guard = GuardLimits(head_s=0.05, body_s=0.05, least_bytes_per_s=1e9, linger_s=0.05, look_s=0.01)
    with edge(tmp_path / "spool", guard=guard) as running:

        def test(data: bytes, pieces: int) -> None:
            with running.connect() as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                size = max(1, -(-len(data) // pieces))
                try:
                    for at in range(0, len(data), size):
                        connection.sendall(data[at : at + size])
                    answer = Reader(connection).answer()
                    while answer.status == 100:
                        answer = Reader(connection).answer()
                    assert answer.status < 500, answer
                    if answer.status >= 400:
                        assert answer.json["status"] == answer.status in EVENT_ERRORS
                    found[str(answer.json.get("code", answer.status))] += 1
                except (EOFError, ConnectionError):
                    found["closed"] += 1
            assert is_taken(running.port)

        fuzz(max(200, CASES // 10), test, data=damaged(), pieces=st.integers(1, 3))
        with capsys.disabled():
            print(f"\n{sum(found.values())} damaged requests: {dict(found.most_common())}")
        assert len(found) > 5, "too little variety to say anything"
        assert running.route.counts["internal"] == 0
