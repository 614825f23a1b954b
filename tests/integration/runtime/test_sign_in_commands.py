"""Commands about signing in: policies, providers, sessions, and help for who cannot get in."""

import dataclasses
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from sluiceway.identity import factors, own_password, providers, service, sessions, steps
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.runtime.identity_provider import keep_provider
from tests.support.command_line import Run

EMAIL = "ada@example.com"


def _person(database: Database) -> tuple[service.User, str]:
    """Ada, and the token of a session of hers."""
    with database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.create_user(conn, EMAIL, "Ada", "correct horse battery", "owner", 1)
        token = sessions.create_session(
            conn, user_id=user.id, workspace_id=1, now=datetime.now(UTC), lifetime=timedelta(days=1)
        )
    return user, token


def test_policy_is_shown_and_changed(run: Run) -> None:
    assert "nobody has to" in run("sign-in", "policy")[1]
    code, out, err = run(
        "sign-in", "policy", "--second-factor-for", "owner", "--second-factor-for", "admin",
        "--no-remember-me", "--idle-minutes", "30",
    )  # fmt: skip
    assert (code, err) == (0, "") and "admin, owner" in out and "no" in out and "30" in out
    assert "30" in run("sign-in", "policy", "--second-factor-for", "-")[1]  # the rest stays
    code, _, err = run("sign-in", "policy", "--second-factor-for", "king")
    assert code == 2 and "king" in err


def test_providers_are_added_listed_and_removed(run: Run, database: Database) -> None:
    code, out, err = run(
        "identity-provider", "add", "Acme SSO", "--issuer", "https://login.acme.example", "--client-id", "me",
        "--group-role", "data=team=editor", "--default-role", "viewer", "--domain", "acme.example",
        stdin="hush 4711\n",
    )  # fmt: skip
    assert (code, err) == (0, "") and "/sign-in/provider/callback" in out and "4711" not in out
    provider_id = out.split()[0]
    with database.transaction(Role.APP, workspace_id=1) as conn:
        found = providers.list_providers(conn)[0]
    assert found.secret(database.envelope) == "hush 4711"
    assert found.spec.group_roles == (providers.GroupRole("data=team", 1, "editor"),)
    assert (found.spec.default_role, found.spec.domains) == ("viewer", ("acme.example",))
    assert "Acme SSO" in run("identity-provider", "list")[1]
    code, _, err = run(
        "identity-provider", "add", "x", "--issuer", "http://a.example", "--client-id", "b", "--public"
    )
    assert code == 2 and "https://" in err and err.count("\n") == 1
    assert run("identity-provider", "remove", provider_id)[0] == 0
    assert run("identity-provider", "list")[1] == ""


def test_a_provider_is_changed_and_the_rest_stays(run: Run, database: Database) -> None:
    added = run(
        "identity-provider", "add", "Acme SSO", "--issuer", "https://login.acme.example", "--client-id", "me",
        "--group-role", "data=editor", "--default-role", "viewer", "--domain", "acme.example",
        stdin="hush 4711\n",
    )  # fmt: skip
    provider_id = added[1].split()[0]

    def kept() -> providers.Provider:
        with database.transaction(Role.APP, workspace_id=1) as conn:
            return providers.list_providers(conn)[0]

    first = kept()
    code, out, err = run(
        "identity-provider", "change", provider_id, "--name", "Acme", "--group-role", "staff=viewer",
        "--covers-second-factor", "--off",
    )  # fmt: skip
    assert (code, err) == (0, "") and "Acme is changed" in out
    second = kept()
    assert second.spec == dataclasses.replace(
        first.spec, name="Acme", group_roles=(providers.GroupRole("staff", 1, "viewer"),),
        covers_second_factor=True, enabled=False,
    )  # fmt: skip
    assert second.secret(database.envelope) == "hush 4711"
    run("identity-provider", "change", provider_id, "--secret", stdin="hush 4712\n")
    assert kept().secret(database.envelope) == "hush 4712"
    none = ("--domain", "-", "--default-role", "-", "--group-role", "-", "--public", "--on")
    assert run("identity-provider", "change", provider_id, *none)[0] == 0
    last = kept()
    assert (last.spec.domains, last.spec.group_roles, last.spec.default_role) == ((), (), None)
    assert last.secret(database.envelope) is None and last.spec.enabled
    code, _, err = run("identity-provider", "change", provider_id, "--issuer", "http://a.example")
    assert code == 2 and "https://" in err
    assert run("identity-provider", "change", provider_id, "--secret", "--public", stdin="x\n")[0] == 2
    with database.transaction(Role.OWNER) as conn:
        rows = conn.execute(sa.text("SELECT action, content FROM app.audit_entries ORDER BY seq")).all()
    entries = [row.content for row in rows if row.action == "identity_provider.changed"]
    assert len(entries) == 3 and '"name":"Acme"' in entries[0] and "4712" not in "".join(entries)
    assert '"client_secret_changed":true' in entries[1]


def test_the_settings_provider_is_kept_as_they_say(database: Database, settings: Settings) -> None:
    wanted = dataclasses.replace(
        settings,
        oidc_issuer="https://login.acme.example",
        oidc_client_id="me",
        oidc_client_secret="hush 4711",
        oidc_group_roles=(("data", "editor"),),
        oidc_default_role="viewer",
    )

    def kept() -> list[providers.Provider]:
        with database.transaction(Role.APP, workspace_id=1) as conn:
            return providers.list_providers(conn)

    keep_provider(wanted, database)
    first = kept()
    assert len(first) == 1 and first[0].managed_by == "settings"
    assert first[0].secret(database.envelope) == "hush 4711"
    keep_provider(dataclasses.replace(wanted, oidc_default_role=None), database)
    assert [(p.id, p.spec.default_role) for p in kept()] == [(first[0].id, None)]
    keep_provider(settings, database)
    assert kept() == []


def test_sessions_are_listed_and_ended(run: Run, database: Database) -> None:
    user, _ = _person(database)
    listed = run("session", "list", "--user", EMAIL)[1]
    assert EMAIL in listed
    assert run("session", "end")[0] == 2
    assert "1 session ended" in run("session", "end", listed.split()[0])[1]
    assert run("session", "end", listed.split()[0])[0] == 1
    assert "0 sessions ended" in run("session", "end", "--user", EMAIL)[1]
    with database.transaction(Role.APP) as conn:
        assert sessions.sessions_of(conn, user.id, now=datetime.now(UTC)) == []


def test_who_cannot_get_in_is_helped(run: Run, database: Database) -> None:
    user, _ = _person(database)
    code, out, _ = run("user", "reset-link", EMAIL)
    token = out.strip().partition("?token=")[2]
    assert code == 0 and len(token) == 43
    with database.transaction(Role.APP) as conn:
        own_password.reset(conn, token, "violet otter climbs quietly", now=datetime.now(UTC))
    with database.transaction(Role.SIGN_IN) as conn:
        hashed = service.password_hash(conn, EMAIL)
    with database.transaction(Role.APP) as conn:
        assert service.check_password(conn, EMAIL, "violet otter climbs quietly", hashed).id == user.id
    with database.transaction(Role.APP, user_id=str(user.id)) as conn:
        now = datetime.now(UTC)
        begun = factors.begin_totp(conn, database.envelope, user.id, EMAIL, now=now)
        code_now = factors.pyotp.TOTP(begun.secret).at(now)
        factors.confirm_totp(conn, database.envelope, user.id, begun.step, code_now, now=now)
    assert "has no second factor now" in run("user", "forget-second-factor", EMAIL)[1]
    with database.transaction(Role.APP, user_id=str(user.id)) as conn:
        assert not factors.state(conn, user.id).any
        assert steps.find(conn, steps.Kind.RESET, token, now=now) is None
    assert run("user", "reset-link", "nobody@example.com")[0] == 1


def test_factors_of_one_person_are_out_of_anothers_reach(database: Database) -> None:
    user, _ = _person(database)
    with database.transaction(Role.APP, workspace_id=1) as conn:
        other = service.create_user(conn, "eve@example.com", "Eve", "correct horse battery", "viewer", 1)
    now = datetime.now(UTC)
    with database.transaction(Role.APP, user_id=str(user.id)) as conn:
        begun = factors.begin_totp(conn, database.envelope, user.id, EMAIL, now=now)
        code = factors.pyotp.TOTP(begun.secret).at(now)
        factors.confirm_totp(conn, database.envelope, user.id, begun.step, code, now=now)
    with database.transaction(Role.APP, workspace_id=1, user_id=str(other.id)) as conn:
        assert not factors.state(conn, user.id).any
        assert not factors.remove_totp(conn, user.id)
    with database.transaction(Role.APP, user_id=str(user.id)) as conn:
        assert factors.state(conn, user.id).any
