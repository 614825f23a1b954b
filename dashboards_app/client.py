"""The HTTP API as the pages use it: every call carries the visitor's own session, errors have words.

Belongs here: addresses and shapes of the API. Not here: anything of Streamlit but who is visiting.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import streamlit as st

# Over https the web process sets the first, which no browser takes over http.
COOKIES = ("__Host-sluiceway_session", "sluiceway_session")
TIMEOUT_S = 60.0  # the first retry of a dead letter waits until the quality engine is imported


@dataclass(eq=False)  # not frozen: context managers that it passes through set its traceback
class Problem(Exception):
    """An error answer (problem details) or a server out of reach (status 0), in words for people."""

    status: int
    title: str
    detail: str = ""
    code: str = ""
    errors: tuple[str, ...] = field(default=())
    method: str = "GET"  # whether something was to be seen or done

    def __str__(self) -> str:
        return f"{self.title}. {self.detail}".strip()


@st.cache_resource(show_spinner=False)
def _connection(api_url: str) -> httpx.Client:
    """One pool of connections for all visitors; it keeps no cookies."""
    return httpx.Client(base_url=api_url, timeout=TIMEOUT_S, headers={"Accept": "application/json"})


class Client:
    """The API for one visitor. Every method raises `Problem`."""

    def __init__(self, api_url: str, session: Mapping[str, str], address: str = "", agent: str = "") -> None:
        """`session`: the visitor's cookie by its name; `address`, `agent` (browser): told to the API."""
        self._http = _connection(api_url)
        self._headers = {"X-Sluiceway-Request": "1"}
        if session:
            self._headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in session.items())
        if address:
            self._headers["X-Forwarded-For"] = address
        if agent.isascii() and agent.isprintable() and agent:
            self._headers["User-Agent"] = agent

    def get(self, path: str, **parameters: Any) -> Any:
        return self._call("GET", path, params={k: v for k, v in parameters.items() if v is not None})

    def post(self, path: str, body: Any = None) -> Any:
        return self._call("POST", path, json=body)

    def put(self, path: str, body: Any) -> Any:
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: Any) -> Any:
        return self._call("PATCH", path, json=body)

    def put_text(self, path: str, text: str) -> Any:
        return self._call(
            "PUT", path, content=text.encode(), headers={"Content-Type": "application/yaml", **self._headers}
        )

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def text(self, path: str, **parameters: Any) -> str:
        wanted = {k: v for k, v in parameters.items() if v is not None}
        return self._answer(
            "GET", path, params=wanted, headers={**self._headers, "Accept": "text/yaml, */*"}
        ).text

    def items(self, path: str, **parameters: Any) -> list[dict[str, Any]]:
        """One page's items."""
        return list(self.get(path, **parameters)["items"])

    def _call(self, method: str, path: str, **options: Any) -> Any:
        options.setdefault("headers", self._headers)
        answer = self._answer(method, path, **options)
        return answer.json() if answer.content else None

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.HTTPError:
            raise Problem(0, "The server does not answer", "Try again in a moment.", method=method) from None
        if answer.is_success:
            return answer
        raise _problem(answer, method)


def _problem(answer: httpx.Response, method: str = "GET") -> Problem:
    try:
        found = answer.json()
    except ValueError:
        found = {}
    if not isinstance(found, dict):
        found = {}
    errors = tuple(_field_error(e) for e in found.get("errors") or [] if isinstance(e, dict))
    title = found.get("title") or f"Error {answer.status_code}"
    detail, code = found.get("detail") or "", found.get("code") or ""
    return Problem(answer.status_code, title, detail, code, errors, method)


def _field_error(error: dict[str, Any]) -> str:
    line = f" (line {error['line']})" if error.get("line") else ""
    return f"{error.get('field') or ''}{line}: {error.get('message') or ''}".strip(": ")


def client() -> Client:
    """The API for whoever is looking at this page."""
    cookies = st.context.cookies
    session = {name: cookies[name] for name in COOKIES if name in cookies}
    agent = st.context.headers.get("user-agent") or ""
    return Client(st.secrets["sluiceway"]["api_url"], session, visitor().get("address") or "", agent)


def visitor() -> dict[str, Any]:
    """Who is signed in, as the web process says: id, email, name, role, workspace_id, address."""
    try:
        found = json.loads(st.context.headers.get("x-sluiceway-user") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
