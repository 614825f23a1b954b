"""Callers that must get nothing, what they try, and a workspace whose every text is `TREASURE`.

For the tests in `tests/security`. Belongs here: making somebody who is nobody (any more), planting what they
must not see, counting attempts. Not here: which routes there are, any judgement on an answer.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from api.services import ApiServices
from sluiceway.identity import members, roles, service
from sluiceway.identity.permissions import GRANTABLE, MemberRole, Permission
from sluiceway.infra.database import Role
from tests.support.attacks import unchecked
from tests.support.loaded import Loader

TREASURE = "zq7treasure"
NOBODY = "0198c0de-0000-7000-8000-000000000001"
PASSWORD = "correct horse battery"
BROWSER = {"X-Sluiceway-Request": "1", "Origin": "http://localhost:8000"}
ABROAD = 3
"""The workspace of another organization that `another_organization` makes."""
SPOOFED: tuple[dict[str, str], ...] = (
    {},
    {"X-Sluiceway-User": '{"id":"1","role":"owner","workspace_id":1}'},
    {"X-HTTP-Method-Override": "GET", "X-Original-URL": "/healthz", "X-Rewrite-URL": "/healthz"},
    {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=localhost", "X-Real-IP": "127.0.0.1"},
    {"X-Workspace-Id": "1", "X-Workspace": "main", "X-Forwarded-User": "owner1@example.com"},
)
"""What proxies and careless servers believe, tried with every kind of caller."""


def some(number: int) -> tuple[dict[str, str], ...]:
    """Two of `SPOOFED`, others with each number: whoever counts on has tried them all."""
    return SPOOFED[number % len(SPOOFED)], SPOOFED[(number + 2) % len(SPOOFED)]


PIPELINE = f"""\
kind: Pipeline
name: {TREASURE}
title: {TREASURE}
description: {TREASURE}
event: {{id: id, time: at}}
source:
  verify: {{scheme: github}}
  allowed_origins: ["https://{TREASURE}.example.com"]
fields:
  - {{name: shop, type: string, role: dimension, title: {TREASURE}}}
  - {{name: amount, type: number, role: measure, unit: {TREASURE}}}
"""
SUITE = f"""\
kind: Suite
name: {TREASURE}
description: {TREASURE}
expectations:
  - name: {TREASURE}
    type: expect_column_values_to_not_be_null
    kwargs: {{column: shop}}
    on_failure: warn
"""
BOARD = {
    "kind": "Dashboard", "name": TREASURE, "title": TREASURE, "description": TREASURE,
    "widgets": [
        {
            "id": "w", "title": TREASURE, "type": "stat", "layout": {"x": 0, "y": 0, "w": 3, "h": 2},
            "query": {"pipeline": TREASURE, "measures": [{"field": "amount", "agg": "sum"}]},
        }
    ],
}  # fmt: skip
RULE = {"kind": "Rule", "name": TREASURE, "pipeline": TREASURE, "roles": ["link"], "rows": "shop = 'a'"}


@dataclass
class Tried:
    """How often each kind of caller has tried, what came of it that should not have."""

    what: str
    attempts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def tell(self, capsys: pytest.CaptureFixture[str], least: int = 5) -> None:
        """Print the counts. Fails for anything wrong, and for a kind that has tried fewer than five times."""
        assert self.wrong == [], "\n".join(self.wrong[:40])
        assert self.attempts and all(count >= least for count in self.attempts.values()), self.attempts
        with capsys.disabled():
            told = ", ".join(f"{count:,} by {kind}" for kind, count in self.attempts.items())
            print(f"\n{self.what}: {self.attempts.total():,} attempts ({told}), nothing leaked")


@dataclass
class Planted:
    """The first workspace with something of every kind. `names`: what stands for parameters of paths."""

    owner: Any
    names: dict[str, str]
    link: str
    invitation: str
    key: str


def plant(world: Any) -> Planted:
    """Make the workspace, over the API where people would."""
    owner = world.person()
    loader = Loader(world.services.database, PIPELINE)
    now = datetime.now(UTC).isoformat()
    loader.load([{"id": f"{TREASURE}-{n}", "at": now, "shop": TREASURE, "amount": n} for n in range(3)])
    loader.load([{"id": f"{TREASURE}-dead", "at": now, "shop": TREASURE, "amount": TREASURE}])

    def make(path: str, body: Any, method: str = "POST", **options: Any) -> Any:
        answer = owner.request(method, path, json=body, **options)
        assert answer.status_code in (200, 201, 202, 204), f"{path}: {answer.text}"
        return answer.json() if answer.content else None

    def apply(path: str, source: bytes) -> None:
        answer = owner.put(path, content=source, headers={"Content-Type": "text/yaml"})
        assert answer.status_code in (200, 201), f"{path}: {answer.text}"

    apply(f"/v1/quality/suites/{TREASURE}", SUITE.encode())
    apply(f"/v1/dashboards/{TREASURE}", orjson.dumps(BOARD))  # JSON is YAML
    apply(f"/v1/rules/{TREASURE}", orjson.dumps(RULE))
    made_key = make("/v1/keys", {"name": TREASURE, "scopes": ["read"]})
    team = make("/v1/teams", {"name": TREASURE, "description": TREASURE})
    make("/v1/roles", {"name": TREASURE, "permissions": ["data:read"]})
    account = make("/v1/service-accounts", {"name": TREASURE, "roles": ["viewer"]})
    link = make(f"/v1/dashboards/{TREASURE}/links", {"name": TREASURE})
    invited = make("/v1/invitations", {"email": f"{TREASURE}@example.com"})
    secret = make(f"/v1/pipelines/{TREASURE}/secrets", {"name": TREASURE, "value": f"{TREASURE}-secret"})
    replay = make("/v1/replays", {"pipeline": TREASURE, "from": f"{datetime.now(UTC):%Y-%m-%d}"})
    letter = owner.get("/v1/dead-letters").json()["items"][0]
    batch = owner.get(f"/v1/batches?pipeline={TREASURE}").json()["items"][0]
    names = {
        "pipeline": TREASURE, "slug": TREASURE, "name": TREASURE, "suite": TREASURE, "model": TREASURE,
        "key_id": made_key["info"]["id"], "account_id": account["id"], "link_id": link["info"]["id"],
        "invitation_id": invited["invitation"]["id"], "workspace_id": "1", "kind": "pipeline", "seq": "1",
        "session_id": owner.get("/v1/me/sessions").json()[0]["id"],
        "user_id": owner.get("/v1/session").json()["user_id"], "group_id": team["id"],
        "secret_id": secret["info"]["id"],
        "replay_id": replay["id"], "letter_id": letter["id"], "batch_id": str(batch["id"]),
        "provider_id": str(_provider(world)), "passkey_id": str(_passkey(world)), "schema_id": "none",
    }  # fmt: skip
    token = invited["link"].rpartition("/")[2]
    return Planted(owner, names, link["token"], token, made_key["key"])


def _provider(world: Any) -> Any:
    # Its name and address are told to whoever wants to sign in.
    return world.execute(
        "INSERT INTO app.identity_providers"
        " (id, organization_id, name, issuer, client_id, scopes, groups_claim)"
        " VALUES (gen_random_uuid(), 1, 'Elsewhere', 'https://sso.example.com', :client, '{openid}',"
        " 'groups') RETURNING id",
        client=TREASURE,
    ).scalar_one()


def _passkey(world: Any) -> Any:
    """Of a member who does nothing else: whoever has one is asked for it when they sign in."""
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        keeper = service.create_user(conn, f"{TREASURE}-keeper@example.com", TREASURE, PASSWORD, "viewer", 1)
    return world.execute(
        "INSERT INTO app.passkeys (id, user_id, credential_id, public_key, sign_count, synced, name)"
        " VALUES (gen_random_uuid(), :keeper, '\\x01', '\\x02', 0, false, :name) RETURNING id",
        name=TREASURE, keeper=keeper.id,
    ).scalar_one()  # fmt: skip


LOOKED_AT = (
    "keys", "dashboards", "rules", "teams", "roles", "pipelines", "members", "links", "invitations",
    "service-accounts", "dead-letters", "quality/suites", f"pipelines/{TREASURE}/secrets",
)  # fmt: skip
_TOLD = ("id", "slug", "name", "title", "state", "role", "permissions", "version", "revoked_at")


def left(owner: Any) -> dict[str, list[Any]]:
    """What is there of the planted things: the same after every attack."""
    return {path: _told(owner.get(f"/v1/{path}").json()["items"]) for path in LOOKED_AT}


def _told(items: list[dict[str, Any]]) -> list[Any]:
    own = ("slug", "name", "title", "email", "pipeline")
    mine = [
        item
        for item in items
        if any(TREASURE in str(item.get(key)) for key in own) or item.get("email") == "owner1@example.com"
    ]
    return [{name: item.get(name) for name in _TOLD} for item in mine]


def another_organization(world: Any) -> int:
    """A workspace of customers who have nothing to do with the first; returns its id, `ABROAD`."""
    organization = world.execute(
        "INSERT INTO app.organizations (slug, name) VALUES ('abroad', 'Abroad') RETURNING id"
    ).scalar_one()
    found: int = world.execute(
        "INSERT INTO app.workspaces (organization_id, slug, name) VALUES (:o, 'abroad', 'Abroad')"
        " RETURNING id",
        o=organization,
    ).scalar_one()
    assert found == ABROAD
    return found


def as_another_process(world: Any) -> ApiServices:
    """The services of a process that has just started: it knows of nobody, and has kept no answer."""
    old = world.services
    services = ApiServices(settings=old.settings, database=old.database, key=old.key, clock=old.clock)
    world.services = services
    return services


def strangers(world: Any) -> dict[str, Callable[[], Any]]:
    """Everybody who is nobody, or nobody any more, by what they are."""
    return {
        "anonymous": lambda: world.client(checked=False),
        "a made-up key": lambda: with_key(world, "slw_abcdefghijkm_" + "x" * 43),
        "another scheme": lambda: world.client(checked=False, headers={"Authorization": "Basic b3duZXI6"}),
        "a made-up session": lambda: world.client(
            checked=False, headers={"Cookie": f"sluiceway_session={'s' * 43}", "X-Sluiceway-Request": "1"}
        ),
        "an expired key": lambda: expired_key(world),
        "a revoked key": lambda: revoked_key(world),
        "an ended session": lambda: ended_session(world),
        "a session past its end": lambda: old_session(world),
        "somebody locked out": lambda: locked_out(world),
    }


def with_key(world: Any, text: str) -> Any:
    return world.client(checked=False, headers={"Authorization": f"Bearer {text}"})


def expired_key(world: Any, *scopes: str) -> Any:
    text = world.key(*(scopes or ("read", "manage")), expires_at=datetime.now(UTC) + timedelta(hours=1))
    end = "UPDATE app.api_keys SET expires_at = now() - interval '1 s' WHERE id = :id"
    world.execute(end, id=text.split("_")[1])
    return with_key(world, text)


def revoked_key(world: Any, *scopes: str) -> Any:
    text = world.key(*(scopes or ("read", "manage")))
    world.execute("UPDATE app.api_keys SET revoked_at = now() WHERE id = :id", id=text.split("_")[1])
    return with_key(world, text)


def ended_session(world: Any) -> Any:
    client = world.person("admin")
    cookies = dict(client.http.cookies)
    client.delete("/v1/session")
    found = unchecked(world, client)
    for name, value in cookies.items():
        found.http.cookies.set(name, value)
    return found


def old_session(world: Any) -> Any:
    client = world.person("editor")
    world.execute(
        "UPDATE app.sessions SET expires_at = now() - interval '1 s', created_at = now() - interval '2 s'"
        " WHERE user_id = (SELECT id FROM app.users WHERE email = 'editor1@example.com')"
    )
    world.services.extra.pop("sessions", None)
    return unchecked(world, client)


def locked_out(world: Any) -> Any:
    client = world.person("analyst")
    world.execute("UPDATE app.users SET disabled_at = now() WHERE email = 'analyst1@example.com'")
    world.services.extra.pop("sessions", None)
    return unchecked(world, client)


def everything_but(world: Any, permission: Permission, people: dict[Any, Any]) -> Any:
    """A person whose role of the workspace's own holds every permission but one."""
    if permission not in people:
        others = sorted(GRANTABLE - {permission})
        slug = "but-" + re.sub("[^a-z]", "-", permission.value)
        email = f"{slug}@example.com"
        with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
            roles.create_role(conn, 1, name=slug, slug=slug, permissions=others, giver=None)
            user = service.create_user(conn, email, slug, PASSWORD, "viewer", 1)
            members.change_member(
                conn, 1, user.id, members.Change(role=slug), giver=None, now=datetime.now(UTC)
            )
        client = world.client(headers=BROWSER)
        answer = client.post("/v1/session", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        people[permission] = unchecked(world, client)
    return people[permission]


def person(world: Any, role: MemberRole | str, people: dict[Any, Any], workspace_id: int = 1) -> Any:
    """Somebody with this role, signed in once."""
    if (role, workspace_id) not in people:
        people[role, workspace_id] = unchecked(world, world.person(role, workspace_id=workspace_id))
    return people[role, workspace_id]
