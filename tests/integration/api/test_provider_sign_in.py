"""Signing in through a real OpenID Connect provider: who gets in, as what, and what keeps impostors out."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from sluiceway.infra.database import Role
from tests.support.oidc_server import OidcServer, oidc_server

HERE = {"Origin": "http://localhost:8000"}


@pytest.fixture(scope="module")
def idp() -> Iterator[OidcServer]:
    with oidc_server() as found:
        yield found


@pytest.fixture
def owner(world: Any, idp: OidcServer) -> Any:
    """Somebody who may set providers up, where the provider's address is let through."""
    found = dataclasses.replace(world.services.settings, private_hosts=("127.0.0.1",))
    world.services.settings = found
    return world.person("owner")


def _spec(idp: OidcServer, **changes: Any) -> dict[str, Any]:
    return {
        "name": "Acme SSO",
        "issuer": idp.issuer,
        "client_id": "sluiceway",
        "client_secret": "s3",
        **changes,
    }


def _add(owner: Any, idp: OidcServer, **changes: Any) -> str:
    answer = owner.post("/v1/sign-in/providers", json=_spec(idp, **changes))
    assert answer.status_code == 201, answer.text
    assert "s3" not in answer.text.replace(idp.issuer, "")
    found: str = answer.json()["id"]
    return found


def _come(world: Any, idp: OidcServer, provider: str, subject: str, client: Any = None) -> tuple[Any, Any]:
    """The whole way in a browser of one's own; returns it and the last answer."""
    browser = client or world.client(headers=HERE, checked=False)
    way = browser.get(f"/sign-in/provider/{provider}?next=/dashboard")
    assert way.status_code == 303, way.text
    back = idp.authorize(way.headers["location"], subject)
    assert back.startswith("http://localhost:8000/sign-in/provider/callback?")
    return browser, browser.get(back.removeprefix("http://localhost:8000"))


def test_groups_decide_what_somebody_is(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(
        owner,
        idp,
        group_roles=[
            {"group": "data", "workspace_id": 1, "role": "editor"},
            {"group": "staff", "workspace_id": 1, "role": "viewer"},
            {"group": "data", "workspace_id": 2, "role": "analyst"},
        ],
    )
    idp.know("u1", email="grace@example.com", email_verified=True, name="Grace", groups=["staff", "data"])
    browser, answer = _come(world, idp, provider, "u1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    me = browser.get("/v1/me").json()
    assert (me["email"], me["name"], me["role"]) == ("grace@example.com", "Grace", "editor")
    roles = world.execute(
        "SELECT workspace_id, role FROM app.memberships WHERE role <> 'owner' ORDER BY 1"
    ).all()
    assert [tuple(r) for r in roles] == [(1, "editor"), (2, "analyst")]

    # Losing a group takes what it gave, at the next sign-in, and the running session with it.
    idp.know("u1", email="renamed@example.com", email_verified=True, groups=["staff"])
    again, _ = _come(world, idp, provider, "u1")
    assert again.get("/v1/me").json()["role"] == "viewer"
    held = world.execute(
        "SELECT workspace_id, role, disabled_at FROM app.memberships WHERE workspace_id = 2"
    ).one()
    assert held.disabled_at is not None
    # The person is known by the subject: another address makes nobody new.
    assert again.get("/v1/me").json()["email"] == "grace@example.com"


def test_whom_somebody_here_locked_out_no_group_lets_in(world: Any, owner: Any, idp: OidcServer) -> None:
    group_roles = [{"group": "data", "workspace_id": room, "role": "editor"} for room in (1, 2)]
    provider = _add(owner, idp, group_roles=group_roles)

    def rooms(*groups: str) -> list[int]:
        idp.know("u9", email="hedy@example.com", email_verified=True, name="Hedy", groups=list(groups))
        _come(world, idp, provider, "u9")
        found = world.execute(
            "SELECT m.workspace_id FROM app.memberships m JOIN app.users u ON u.id = m.user_id"
            " WHERE u.email = 'hedy@example.com' AND m.disabled_at IS NULL ORDER BY 1"
        )
        return list(found.scalars())

    assert rooms("data") == [1, 2]
    person = world.execute("SELECT id FROM app.users WHERE email = 'hedy@example.com'").scalar_one()
    assert owner.patch(f"/v1/members/{person}", json={"disabled": True}).status_code == 200
    assert rooms("data") == [2]
    assert rooms() == []
    assert world.execute(
        "SELECT count(*) FROM app.audit_entries WHERE action = 'member.disabled' AND target_id = :id"
        " AND workspace_id = 2", id=str(person),
    ).scalar_one() == 1  # fmt: skip
    # What the lost group closed it opens again, and nothing else.
    assert rooms("data") == [2]
    assert owner.patch(f"/v1/members/{person}", json={"disabled": False}).status_code == 200
    assert rooms("data") == [1, 2]


def test_who_has_no_group_gets_the_default_or_nothing(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp, group_roles=[{"group": "data", "workspace_id": 1, "role": "editor"}])
    idp.know("u2", email="nobody@example.com", email_verified=True, groups=["others"])
    browser, answer = _come(world, idp, provider, "u2")
    assert answer.status_code == 401 and "None of your groups" in answer.text
    assert browser.get("/v1/me").status_code == 401
    assert world.execute("SELECT count(*) FROM app.users WHERE email = 'nobody@example.com'").scalar() == 0

    body = _spec(idp, default_workspace_id=1, default_role="viewer")
    assert owner.put(f"/v1/sign-in/providers/{provider}", json=body).status_code == 200
    browser, _ = _come(world, idp, provider, "u2")
    assert browser.get("/v1/me").json()["role"] == "viewer"
    # What somebody here made of them stays: the default is for beginners.
    world.execute("UPDATE app.memberships SET role = 'analyst' WHERE role = 'viewer'")
    browser, _ = _come(world, idp, provider, "u2")
    assert browser.get("/v1/me").json()["role"] == "analyst"


UNTRUSTED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"email": "a@example.com", "email_verified": False}, {}, "verified"),
    ({"email": "a@example.com"}, {}, "verified"),
    ({"name": "No Address"}, {}, "e-mail address"),
    ({"email": "a@evil.example", "email_verified": True}, {"domains": ["example.com"]}, "speak for"),
]


def test_an_address_has_to_be_vouched_for(world: Any, owner: Any, idp: OidcServer) -> None:
    default = {"default_workspace_id": 1, "default_role": "viewer"}
    provider = _add(owner, idp, **default)
    for claims, changes, said in UNTRUSTED:
        body = _spec(idp, **default, **changes)
        assert owner.put(f"/v1/sign-in/providers/{provider}", json=body).status_code == 200
        idp.know("u3", **claims)
        _, answer = _come(world, idp, provider, "u3")
        assert answer.status_code == 401 and said in answer.text, claims


def test_a_domain_that_the_owner_named_vouches(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp, default_workspace_id=1, default_role="viewer", domains=["@Example.com"])
    idp.know("u4", email="a@EXAMPLE.com")
    browser, _ = _come(world, idp, provider, "u4")
    assert browser.get("/v1/me").json()["email"] == "a@EXAMPLE.com"


def test_a_provider_links_its_own_organizations_people_alone(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp, default_workspace_id=1, default_role="viewer")
    idp.know("u5", email="owner1@example.com", email_verified=True)
    browser, _ = _come(world, idp, provider, "u5")
    assert browser.get("/v1/me").json()["role"] == "owner"  # linked, and not made a viewer

    world.execute("INSERT INTO app.organizations (slug, name) VALUES ('rivals', 'Rivals')")
    world.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (2, 'theirs', 'Theirs')")
    victim = world.person("owner", workspace_id=3)
    assert victim.get("/v1/me").status_code == 200
    idp.know("u6", email="owner3@example.com", email_verified=True)
    browser, answer = _come(world, idp, provider, "u6")
    assert answer.status_code == 401 and "another organization" in answer.text
    assert browser.get("/v1/me").status_code == 401


def test_a_session_through_a_provider_stays_in_its_organization(
    world: Any, owner: Any, idp: OidcServer
) -> None:
    provider = _add(owner, idp, default_workspace_id=1, default_role="viewer")
    idp.know("u7", email="both@example.com", email_verified=True)
    browser, _ = _come(world, idp, provider, "u7")
    world.execute("INSERT INTO app.organizations (slug, name) VALUES ('rivals', 'Rivals')")
    world.execute("INSERT INTO app.workspaces (organization_id, slug, name) VALUES (2, 'theirs', 'Theirs')")
    world.execute(
        "INSERT INTO app.memberships (workspace_id, user_id, role)"
        " SELECT 3, id, 'owner' FROM app.users WHERE email = 'both@example.com'"
    )
    # Coming in again, they cannot be given a password here that would open the other organization, too.
    own = {"X-Sluiceway-Request": "1"}
    new = {"password": "violet otter climbs quietly"}
    assert browser.put("/v1/me/password", json=new, headers=own).status_code == 204
    browser, _ = _come(world, idp, provider, "u7")
    refused = browser.put("/v1/me/password", json=new, headers=own)
    assert (refused.status_code, refused.json()["code"]) == (403, "confirmation_required")
    world.execute("UPDATE app.sessions SET workspace_id = 3 WHERE provider_id IS NOT NULL")
    assert browser.get("/v1/me").status_code == 401


def test_an_answer_belongs_to_the_browser_that_asked(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp, default_workspace_id=1, default_role="viewer")
    idp.know("mallory", email="mallory@example.com", email_verified=True)
    mallory = world.client(headers=HERE, checked=False)
    way = mallory.get(f"/sign-in/provider/{provider}")
    back = idp.authorize(way.headers["location"], "mallory").removeprefix("http://localhost:8000")
    victim = world.client(headers=HERE, checked=False)
    assert victim.get(back).status_code == 401
    victim.get(f"/sign-in/provider/{provider}")  # has a way of its own, with another state
    assert victim.get(back).status_code == 401
    assert victim.get("/v1/me").status_code == 401
    assert mallory.get(back).status_code == 303
    assert mallory.get(back).status_code == 401  # once


def test_what_is_sent_to_the_provider(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp, scopes=["email", "groups"])
    way = world.client(headers=HERE, checked=False).get(f"/sign-in/provider/{provider}?next=//evil.example")
    asked = {k: v[0] for k, v in parse_qs(urlsplit(way.headers["location"]).query).items()}
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43 and len(asked["nonce"]) >= 43 and len(asked["state"]) == 43
    assert asked["scope"] == "openid email groups"
    assert asked["redirect_uri"] == "http://localhost:8000/sign-in/provider/callback"
    assert "evil" not in way.headers["location"]


def test_a_person_who_says_no_is_told_so(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp)
    browser = world.client(headers=HERE, checked=False)
    way = browser.get(f"/sign-in/provider/{provider}")
    answer = browser.get(idp.deny(way.headers["location"]).removeprefix("http://localhost:8000"))
    assert answer.status_code == 401 and "did not sign you in" in answer.text


def test_the_policys_second_factor_counts_at_the_provider_too(
    world: Any, owner: Any, idp: OidcServer
) -> None:
    provider = _add(owner, idp, default_workspace_id=1, default_role="viewer")
    assert owner.put("/v1/sign-in/policy", json={"second_factor_for": ["viewer"]}).status_code == 200
    idp.know("plain", email="plain@example.com", email_verified=True)
    browser, answer = _come(world, idp, provider, "plain")
    assert answer.headers["location"] == "/account"
    assert browser.get("/v1/pipelines").json()["code"] == "second_factor_missing"
    idp.know("strong", email="strong@example.com", email_verified=True, amr=["pwd", "mfa"])
    browser, _ = _come(world, idp, provider, "strong")
    assert browser.get("/v1/pipelines").status_code == 200


def test_a_provider_is_set_up_checked_changed_and_removed(world: Any, owner: Any, idp: OidcServer) -> None:
    provider = _add(owner, idp)
    checked = owner.post(f"/v1/sign-in/providers/{provider}/check")
    assert checked.json()["token_endpoint"] == f"{idp.issuer}/oauth2/token"
    assert owner.post("/v1/sign-in/providers", json=_spec(idp, name="ACME sso")).status_code == 409
    page = world.client(checked=False).get("/sign-in").text
    assert f'href="/sign-in/provider/{provider}"' in page and "Continue with Acme SSO" in page
    idp.know("u8", email="u8@example.com", email_verified=True)
    body = _spec(idp, default_workspace_id=1, default_role="viewer")
    owner.put(f"/v1/sign-in/providers/{provider}", json=body)
    browser, _ = _come(world, idp, provider, "u8")
    assert owner.delete(f"/v1/sign-in/providers/{provider}").status_code == 204
    assert browser.get("/v1/me").status_code == 401
    assert owner.get("/v1/sign-in/providers").json()["items"] == []
    with world.services.database.engine(Role.OWNER).connect() as conn:
        said = conn.exec_driver_sql("SELECT string_agg(content, ' ') FROM app.audit_entries").scalar()
    assert "identity_provider.added" in said and "identity_provider.removed" in said and '"s3"' not in said


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"issuer": "http://login.example.com"}, "issuer"),
    ({"issuer": "file:///etc/passwd"}, "issuer"),
    ({"issuer": "https://user:pass@login.example.com"}, "issuer"),
    ({"default_role": "viewer"}, "default_role"),
    ({"default_role": "owner", "default_workspace_id": 1}, "default_role"),
    ({"group_roles": [{"group": "g", "workspace_id": 99, "role": "viewer"}]}, "group_roles.0"),
    ({"group_roles": [{"group": "g", "workspace_id": 1, "role": "king"}]}, "group_roles.0"),
    ({"domains": ["not a domain"]}, "domains"),
    ({"scopes": ["a b"]}, "scopes"),
]


def test_what_cannot_be_a_provider(owner: Any, idp: OidcServer) -> None:
    for changes, field in IMPOSSIBLE:
        answer = owner.post("/v1/sign-in/providers", json=_spec(idp, **changes))
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


def test_private_addresses_are_not_asked(world: Any, idp: OidcServer) -> None:
    owner = world.person("owner")  # nothing is let through
    port = urlsplit(idp.issuer).port
    made = owner.post("/v1/sign-in/providers", json=_spec(idp, issuer=f"https://localhost:{port}"))
    assert made.status_code == 201
    answer = owner.post(f"/v1/sign-in/providers/{made.json()['id']}/check")
    assert (answer.status_code, answer.json()["code"]) == (422, "forbidden_address")


def test_setting_up_a_provider_is_the_organizations_owners(world: Any, idp: OidcServer) -> None:
    world.person("owner")  # the first owner owns the organization
    for role, workspace in (("admin", 1), ("owner", 2)):
        answer = world.person(role, workspace_id=workspace).post("/v1/sign-in/providers", json=_spec(idp))
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), role
