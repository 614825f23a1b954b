"""The OpenAPI document: what FastAPI derives from the routes, made complete and true.

Errors are declared from what an operation is (asks who is calling, has a body, …), so that no route can
forget one; the event route, which FastAPI does not know, is described here.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import Problem, problem_responses
from sluiceway import __doc__ as product

EVENTS_PATH = "/v1/pipelines/{pipeline}/events"
EVENT_ERRORS = (400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 429, 431, 500, 503)
# What machines look at all the time (`api.rate_limits`); `/metrics` with a key is limited.
_UNLIMITED = frozenset({"/healthz", "/readyz"})
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head"})

TAGS = [
    {"name": "session", "description": "Signing in and out; who is asking, and how they sign in."},
    {"name": "sign-in", "description": "What a workspace asks of those who sign in; identity providers."},
    {"name": "pipelines", "description": "Pipelines as code, their versions and their state."},
    {"name": "events", "description": "Sending events."},
    {"name": "data", "description": "Queries over silver, gold and marts."},
    {"name": "live", "description": "Server-sent events: rows and changes as they happen."},
    {"name": "dashboards", "description": "Dashboards and their layouts."},
    {"name": "batches", "description": "What the loader did."},
    {"name": "dead letters", "description": "Events that could not become rows: see, correct, retry."},
    {"name": "quality", "description": "Expectation suites and what they found."},
    {"name": "replays", "description": "Deriving silver again from bronze."},
    {"name": "rules", "description": "Row rules and column masks: who sees which rows and columns."},
    {"name": "keys", "description": "API keys."},
    {"name": "service accounts", "description": "Members that are programs, and their keys."},
    {"name": "links", "description": "Links that show one dashboard without signing in."},
    {"name": "secrets", "description": "With which senders sign their deliveries."},
    {"name": "me", "description": "What people ask and change about themselves."},
    {"name": "workspaces", "description": "The organization and its workspaces; going between them."},
    {"name": "members", "description": "Who belongs to the workspace, invitations, teams and roles."},
    {"name": "usage", "description": "What the workspace uses, and its limits."},
    {"name": "audit", "description": "Who did what: searched, exported, checked."},
    {"name": "schemas", "description": "JSON Schemas of the files people write."},
    {"name": "operations", "description": "Health and metrics, for machines."},
]

_DESCRIPTION = (
    "From a webhook to a live, trusted number. Authenticate with `Authorization: Bearer slw_…` (an API key) "
    "or with the session cookie; writes with a session also need `X-Sluiceway-Request: 1`. Every error is "
    "`application/problem+json` (RFC 9457) with a stable `code`. Lists are paged by `cursor`. POSTs take an "
    "`Idempotency-Key`: within a day the same key gives the same answer."
)


def install(app: FastAPI, *, with_events: bool) -> None:
    """Make `app.openapi()` give the whole document; it is built once."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, with_events)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every (path, method, operation)."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                yield path, method, operation


def _document(app: FastAPI, with_events: bool) -> dict[str, Any]:
    from importlib.metadata import version

    document = get_openapi(
        title="Sluiceway",
        version=version("sluiceway"),
        summary=(product or "").split("\n")[0] or None,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=TAGS,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    found = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(found.pop("$defs", {}))
    schemas["Problem"] = found
    if with_events:
        document["paths"].setdefault(EVENTS_PATH, {})["post"] = _events_operation()
    for path, method, operation in operations(document):
        _declare_errors(path, method, operation)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return document


def _declare_errors(path: str, method: str, operation: dict[str, Any]) -> None:
    """The errors that follow from what the operation is; those a route declares itself stay."""
    if path == EVENTS_PATH:
        return  # it is no route of FastAPI's, and says all of its own
    statuses = {500, 503} if path in _UNLIMITED else {429, 500, 503}
    if operation.get("security"):
        statuses |= {401, 403}
    if operation.get("requestBody"):
        statuses |= {400, 413, 422}
    if operation.get("parameters"):
        statuses.add(422)
    if "{" in path:
        statuses.add(404)
    if method == "post" and path.startswith("/v1/") and operation.get("security"):
        statuses.add(409)
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_PARAMETER)
        statuses.add(422)
    responses = operation["responses"]
    declared = problem_responses(sorted(statuses))
    for status, response in declared.items():
        if status == 422 or str(status) not in responses:
            responses[str(status)] = response


_IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of 1 to 200 characters. The same key with the same request gives the same "
    "answer for a day; with another request it is refused (422).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
}


def _events_operation() -> dict[str, Any]:
    event = {"carrier": "B6", "flight": 1171, "dep_delay": 3.0, "time": "2026-11-20T14:05:00Z"}
    return {
        "tags": ["events"],
        "operationId": "send_events",
        "summary": "Send events",
        "description": "One JSON object, a JSON array, NDJSON, or a form; plain, gzip or zstd. 202 means "
        "that the events are on disk. Needs a key with the scope `ingest` for this pipeline, or the "
        "signature of the scheme that the pipeline names (`source.verify`); handshakes are answered here "
        "too, by GET and OPTIONS where they ask so.",
        "security": [{"api_key": []}, {}],
        "parameters": [
            {"name": "pipeline", "in": "path", "required": True, "schema": {"type": "string"}},
            {
                "name": "Content-Encoding",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "enum": ["identity", "gzip", "zstd"]},
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Where the pipeline names no event id: the same key with the same bytes is "
                "the same event, sent again.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            },
            {
                "name": "workspace",
                "in": "query",
                "required": False,
                "description": "For senders without a key: the workspace, if it is not the first one.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"type": ["object", "array"]}, "example": event},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/x-www-form-urlencoded": {"schema": {"type": "object"}},
            },
        },
        "responses": {
            "202": {
                "description": "Accepted: durable on this node's disk.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "properties": {
                                "accepted": {"type": "integer", "description": "Events taken."},
                                "position": {
                                    "type": "string",
                                    "description": "Node, segment, offset; absent if no event was sent.",
                                },
                            },
                            "required": ["accepted"],
                        },
                        "example": {"accepted": 1, "position": "host-216993600-32"},
                    }
                },
            },
            **{str(k): v for k, v in problem_responses(EVENT_ERRORS).items()},
        },
    }
