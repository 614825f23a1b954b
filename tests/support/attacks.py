"""What attackers send, where it can be put, and what it must never do. For the tests in `tests/security`.

Belongs here: payloads, filling every text of an operation from its OpenAPI description, watching the SQL that
is sent. Not here: any judgement on an answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

MARK = "zq9x"
"""Part of every payload: whoever finds it in the text of a statement has found an injection."""
SQL = (
    f"{MARK}'; DELETE FROM app.users; --",
    f'{MARK}"; DELETE FROM app.users; --',
    f"{MARK}' OR '1'='1",
    f"{MARK}') UNION SELECT email FROM app.users --",
    f"{MARK}\\'; DELETE FROM app.users; --",
    f"%({MARK})s $1 {MARK} :{MARK} {{{MARK}}}",
)
SCRIPTS = (
    "<script>window.xss=1</script>",
    '"><img src=x data-xss onerror="window.xss=1">',
    "'><svg data-xss onload='window.xss=1'>",
    "</title></style></textarea><iframe data-xss srcdoc='<script>parent.xss=1</script>'></iframe>",
    "[click](javascript:window.xss=1) <javascript:window.xss=1> ![x](x onerror=window.xss=1)",
    "{{constructor.constructor('window.xss=1')()}}${window.xss=1}`",
)
TRAVERSALS = (
    "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..\\..\\..\\etc\\passwd", "%2e%2e%5c%2e%2e%5cetc%5cpasswd",
    "..%252f..%252fetc%252fpasswd", "/etc/passwd", "%2fetc%2fpasswd", "....//....//etc/passwd",
    "..%c0%af..%c0%afetc/passwd", "page.css%00.svg", "page.css/../../app.py", "file:///etc/passwd",
)  # fmt: skip


@contextmanager
def watched_sql(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The text of every statement that is sent meanwhile; values sent beside it are not in it."""
    sent: list[str] = []
    execute = psycopg.Cursor.execute

    def watched(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(query if isinstance(query, str) else _text(query))
        return execute(self, query, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", watched)
        yield sent


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query.as_string(None))


def unchecked(world: Any, client: Any) -> Any:
    """The same person or program, whose answers are not held against the OpenAPI document: attacks walk every
    route, and what they are after is not a status that was not declared."""
    found = world.client(headers=dict(client.http.headers), checked=False)
    found.http.cookies = client.http.cookies
    return found


def parameters(operation: dict[str, Any], place: str) -> list[str]:
    """Names of an operation's parameters in `path` or `query` that take text."""
    return [p["name"] for p in operation.get("parameters", ()) if p["in"] == place]


def address(path: str, values: dict[str, str], attacked: str | None = None, payload: str = "") -> str:
    """The path with every `{name}` filled in, one of them with the payload."""
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(payload, safe="") if name == attacked else value)
    return path


class Bodies:
    """Bodies that an OpenAPI document describes, with the payload in every text."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def of(self, operation: dict[str, Any], payload: str) -> tuple[str, Any] | None:
        """The media type and a body with all that is required, and every text that may be there."""
        content = operation.get("requestBody", {}).get("content", {})
        for media, told in content.items():
            return media, self._example(told["schema"], payload, 0)
        return None

    def _example(self, schema: dict[str, Any], payload: str, depth: int) -> Any:
        if "$ref" in schema:
            return self._example(self._schemas[schema["$ref"].rsplit("/", 1)[1]], payload, depth + 1)
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                wanted = [s for s in schema[several] if s.get("type") != "null"]
                return self._example(wanted[0], payload, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            known = schema.get("properties", {})
            required = schema.get("required", ())
            if depth > 6:
                known = {name: known[name] for name in required if name in known}
            return {name: self._example(part, payload, depth + 1) for name, part in known.items()}
        if kind == "array":
            return [] if depth > 6 else [self._example(schema.get("items", {}), payload, depth + 1)]
        if kind in ("integer", "number"):
            return schema.get("minimum", 1)
        if kind == "boolean":
            return True
        return payload
