"""Generated requests to every operation of the OpenAPI document, as several callers: never a 5xx, never a
status, a type or an error that the document does not name.

`DOCUMENT_CASES` says how many an operation and kind of data (1 by default), `DOCUMENT_SEED` where they begin.
"""

import itertools
import json
import os
from collections import Counter
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from api.openapi import operations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("no_limits"),
    pytest.mark.timeout(0 if os.environ.get("DOCUMENT_CASES") else 400),
]

CASES = int(os.environ.get("DOCUMENT_CASES", "1"))
SEED = int(os.environ.get("DOCUMENT_SEED", "0"))
FUZZING = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=CASES
)
CALLERS = ("owner", "admin", "editor", "viewer", "manage", "read", "nobody")
# They ask another server, whose address is generated as well: `test_ssrf` attacks these.
ASKING_OTHERS = frozenset({"add_provider", "change_provider", "check_provider", "create_provider"})
_number = itertools.count()
FORBIDDEN_IN_HEADERS = str.maketrans("", "", "\r\n\x00")


def test_every_operation_keeps_to_the_document(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply()
    document = world.app.openapi()
    schema = schemathesis.openapi.from_dict(document)
    callers: dict[str, Any] = {}
    found: Counter[int] = Counter()
    wrong: list[str] = []
    for path, method, told in operations(document):
        name = told["operationId"]
        if name == "send_events" or name in ASKING_OTHERS or "provider" in name:
            continue
        operation = schema[path][method.upper()]

        def test(case: Any, who: str) -> None:
            client = callers.get(who)
            if client is None:
                client = callers[who] = _caller(world, who)
            try:  # the client holds each answer against the document
                answer = client.request(
                    case.method, case.formatted_path, params=_flat(case.query), **_body(case)
                )
            except AssertionError as error:
                wrong.append(f"{case.method} {case.formatted_path} as {who}: {str(error).splitlines()[0]}")
                return
            if answer.status_code == 401:
                callers.pop(who, None)  # it has signed itself out, or deleted its account
            # This application has neither broker nor gate, and says so.
            absent = answer.status_code == 503 and "This process" in answer.text
            if answer.status_code >= 500 and not absent:
                wrong.append(f"{case.method} {case.formatted_path} as {who}: {answer.text}")
            found[answer.status_code] += 1

        for mode in GenerationMode:
            run = given(case=operation.as_strategy(mode), who=st.sampled_from(CALLERS))(test)
            # Of what takes no input nothing can be wrong.
            with suppress(*[Unsatisfiable] if mode is GenerationMode.NEGATIVE else []):
                hypothesis.seed(SEED)(FUZZING(run))()
    assert wrong == [], "\n".join(wrong)
    with capsys.disabled():
        told_counts = ", ".join(f"{count:,} × {status}" for status, count in sorted(found.items()))
        print(f"\n{found.total():,} requests: {told_counts}")
    assert found.total() > 200 and found[200] > 0


def _caller(world: Any, who: str) -> Any:
    if who == "nobody":
        return world.client()
    if who in ("manage", "read"):
        return world.program(who)
    world.execute("DELETE FROM app.sign_in_attempts")  # generated proofs are wrong ones, and counted
    # Somebody new: generated requests change people, too.
    return world.person(who, name=f"-{next(_number)}")


def _flat(query: Any) -> list[tuple[str, str]]:
    pairs = []
    for name, value in (query or {}).items():
        for one in value if isinstance(value, list) else [value]:
            text = one if isinstance(one, str) else json.dumps(one)
            pairs.append((str(name), text.encode("utf-8", "replace").decode()))
    return pairs


def _body(case: Any) -> dict[str, Any]:
    headers = {
        str(name): str(value).encode("latin-1", "replace").decode("latin-1").translate(FORBIDDEN_IN_HEADERS)
        for name, value in (case.headers or {}).items()
        if str(name).lower() not in ("authorization", "cookie", "host", "content-length", "transfer-encoding")
    }
    if case.media_type is None or type(case.body).__name__ == "NotSet":
        return {"headers": headers}
    body = case.body
    if not isinstance(body, bytes):
        plain = isinstance(body, str) and "json" not in case.media_type
        body = (body if plain else json.dumps(body, default=str)).encode("utf-8", "replace")
    return {"headers": {**headers, "Content-Type": case.media_type}, "content": body}
