"""A workspace with people in it, made over HTTP as an administrator makes it: for pictures and for looking.

Belongs here: members with roles, teams, attributes, sessions; invitations, keys, service accounts, rules,
links, limits, an identity provider. Not here: starting a platform (`platform`), pictures (`screenshots`).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

PASSWORD = "violet otter climbs quietly"
_LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15"
_PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.0 Mobile/15E148 Safari/604.1"
)
_FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"

RULES = {
    "home-airports": """\
kind: Rule
name: home-airports
description: Partners see what left from the airports they work at.
pipeline: nyc-flights
roles: [viewer]
except: [analyst]
rows: origin in user.airports
masks:
  - {field: tailnum, as: hash}
""",
    "no-tail-numbers": """\
kind: Rule
name: no-tail-numbers
description: Whoever has only a link never learns which aircraft it was.
pipeline: nyc-flights
roles: [link]
masks:
  - {field: tailnum, as: hide}
""",
}

_MADE: dict[str, dict[str, Any]] = {
    "/v1/keys": {"name": "weekly report", "scopes": ["read"]},
    "/v1/dashboards/flights-operations/links": {"name": "lobby"},
    "/v1/invitations": {"email": "mary@example.com", "role": "viewer"},
}


@dataclass(frozen=True)
class _Person:
    email: str
    name: str
    role: str
    browser: str
    team: str | None = None
    attributes: dict[str, list[str]] | None = None


PEOPLE = (
    _Person("grace@example.com", "Grace Hopper", "editor", _LINUX, "platform"),
    _Person("katherine@example.com", "Katherine Johnson", "admin", _FIREFOX, "platform"),
    _Person(
        "bessie@partner.example.com", "Bessie Coleman", "viewer", _PHONE, "partners", {"airports": ["LGA"]}
    ),
    _Person("henrietta@example.com", "Henrietta Swan Leavitt", "analyst", _MAC),
)


class Crew:
    """The owner of a workspace, at work."""

    def __init__(self, url: str, email: str, password: str) -> None:
        self._url = url
        self._http = self._client(_LINUX)
        self._do("POST", "/v1/session", {"email": email, "password": password})

    def fill(self) -> None:
        """Everything, in the order in which it can be made. The workspace must not have it yet."""
        for team in (
            {"name": "Platform", "description": "Keeps the pipelines flowing."},
            {
                "name": "Partners",
                "description": "Airlines and airports.",
                "attributes": {"airports": ["JFK"]},
            },
        ):
            self._do("POST", "/v1/teams", team)
        support = ["dashboard:read", "data:read", "dead_letter:read", "dead_letter:resolve", "pipeline:read"]
        role = {"name": "Support", "description": "Looks after dead letters.", "permissions": support}
        self._do("POST", "/v1/roles", role)
        for person in PEOPLE:
            self._join(person)
        self._do("POST", "/v1/invitations", {"email": "annie@example.com", "role": "analyst"})
        gone = self._do(
            "POST", "/v1/invitations", {"email": "a.long.address@partner.example.com", "role": "viewer"}
        )
        self._do("DELETE", f"/v1/invitations/{gone['invitation']['id']}")
        self._keys()
        for name, source in RULES.items():
            self._put_text(f"/v1/rules/{name}", source)
        self._links()
        quotas = [
            {"measure": "events", "soft": 4_000, "hard": 5_000_000},
            {"measure": "stored_bytes", "soft": None, "hard": 50 * 1024**3},
            {"measure": "seats", "soft": 5, "hard": 8},
        ]
        self._do("PUT", "/v1/quotas", {"quotas": quotas})
        self._do("POST", "/v1/sign-in/providers", self._provider())

    def close(self) -> None:
        self._http.close()

    def _join(self, person: _Person) -> None:
        teams = [person.team] if person.team else []
        body = {"email": person.email, "role": person.role, "teams": teams}
        link = self._do("POST", "/v1/invitations", body)["link"]
        with self._client(person.browser) as client:
            token = link.rpartition("/")[2]
            accepted = {"token": token, "name": person.name, "password": PASSWORD}
            answer = client.post("/v1/invitations/acceptance", json=accepted)
            assert answer.is_success, answer.text
            if person.role == "admin":  # so that somebody besides the owner has something to leave behind
                for path, made in _MADE.items():
                    answer = client.post(path, json=made)
                    assert answer.is_success, f"{path}: {answer.text}"
        if person.attributes:
            found = self._do("GET", f"/v1/members?search={person.email}")["items"][0]
            self._do("PATCH", f"/v1/members/{found['id']}", {"attributes": person.attributes})

    def _keys(self) -> None:
        soon = (datetime.now(UTC) + timedelta(days=90)).isoformat()
        gates = {"name": "gate sensors", "scopes": ["ingest"], "pipelines": ["nyc-flights"], "rate": 200}
        made = self._do("POST", "/v1/keys", {**gates, "expires_at": soon})
        self._do("POST", f"/v1/keys/{made['info']['id']}/rotation", {"overlap_s": 86_400})
        self._do("POST", "/v1/keys", {"name": "nightly export", "scopes": ["read"]})
        old = self._do("POST", "/v1/keys", {"name": "first try", "scopes": ["ingest"]})
        self._do("DELETE", f"/v1/keys/{old['info']['id']}")
        about = "Applies pipelines from the repository."
        account = {"name": "deployments", "roles": ["editor"], "description": about}
        made = self._do("POST", "/v1/service-accounts", account)
        self._do("POST", f"/v1/service-accounts/{made['id']}/keys", {"name": "build server"})

    def _links(self) -> None:
        soon = (datetime.now(UTC) + timedelta(days=7)).isoformat()
        for link in (
            {"name": "board on the wall"},
            {"name": "LaGuardia's week", "expires_at": soon, "password": "a word for the wall"},
        ):
            self._do("POST", "/v1/dashboards/flights-operations/links", link)

    def _provider(self) -> dict[str, Any]:
        workspace = self._do("GET", "/v1/session")["workspace"]["id"]
        return {
            "name": "Example Login",
            "issuer": "https://login.example.com",
            "client_id": "sluiceway",
            "client_secret": "kept by the two of them",
            "domains": ["example.com"],
            "group_roles": [{"group": "data-team", "workspace_id": workspace, "role": "editor"}],
        }

    def _client(self, browser: str) -> httpx.Client:
        headers = {"X-Sluiceway-Request": "1", "Origin": self._url, "User-Agent": browser}
        return httpx.Client(base_url=self._url, headers=headers, timeout=60)

    def _do(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    def _put_text(self, path: str, source: str) -> None:
        answer = self._http.put(path, content=source.encode(), headers={"Content-Type": "application/yaml"})
        assert answer.is_success, f"PUT {path}: {answer.text}"


def fill(url: str, email: str, password: str) -> None:
    """Sign in as the owner, and make all of it."""
    crew = Crew(url, email, password)
    try:
        crew.fill()
    finally:
        crew.close()
