"""`sluiceway sign-in`, `sluiceway identity-provider`; what `sluiceway user` does for who cannot sign in."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from sluiceway.runtime.commands.people import Email
from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

if TYPE_CHECKING:
    import sqlalchemy as sa

    from sluiceway.identity.providers import GroupRole, ProviderSpec
    from sluiceway.infra.database import Database
    from sluiceway.infra.outbound import PrivateHosts

app = typer.Typer(help="What a workspace asks of those who sign in.", no_args_is_help=True)
providers = typer.Typer(help="OpenID Connect providers of an organization.", no_args_is_help=True)

ProviderId = Annotated[UUID, typer.Argument(help="As `identity-provider list` shows it.")]


@app.command()
def policy(
    second_factor_for: Annotated[
        list[str] | None,
        typer.Option(help="A role's slug, * for everyone, - for nobody; may be repeated."),
    ] = None,
    remember_me: Annotated[bool | None, typer.Option(help="Whether browsers may be remembered.")] = None,
    idle_minutes: Annotated[
        int | None,
        typer.Option(min=0, help="When any idle session ends; 0: as the installation says."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Show what the workspace asks, or change what is given."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.policy import SignInPolicy, get_policy, set_policy
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        found = get_policy(connection, room)
        if (second_factor_for, remember_me, idle_minutes) != (None, None, None):
            roles = found.second_factor_for
            if second_factor_for is not None:
                roles = tuple(role for role in second_factor_for if role != "-")
            idle = found.idle_minutes if idle_minutes is None else idle_minutes or None
            remember = found.remember_me if remember_me is None else remember_me
            before, found = set_policy(connection, room, SignInPolicy(roles, remember, idle), by=None)
            note_command(
                connection, Action.SIGN_IN_POLICY_CHANGED, target="sign_in_policy", target_id=room,
                before={"second_factor_for": before.second_factor_for, "remember_me": before.remember_me,
                        "idle_minutes": before.idle_minutes},
                after={"second_factor_for": found.second_factor_for, "remember_me": found.remember_me,
                       "idle_minutes": found.idle_minutes},
            )  # fmt: skip
    typer.echo(f"second factor for: {', '.join(found.second_factor_for) or 'nobody has to'}")
    typer.echo(f"remember me:       {'yes' if found.remember_me else 'no'}")
    typer.echo(f"idle sessions end: {found.idle_minutes or 'as the installation says'}")


@providers.command("list")
def list_(workspace: WorkspaceOption = None) -> None:
    """List the identity providers of the workspace's organization."""
    from sluiceway.identity.providers import list_providers

    with in_workspace(workspace) as (connection, _):
        found = list_providers(connection)
    for provider in found:
        state = "on" if provider.spec.enabled else "off"
        typer.echo(
            f"{provider.id}  {state:3}  {provider.managed_by:8}  {provider.spec.name}  {provider.spec.issuer}"
        )


@providers.command()
def add(
    name: Annotated[str, typer.Argument(help="What its button says after `Continue with`.")],
    issuer: Annotated[str, typer.Option(help="Its address: https://…")],
    client_id: Annotated[str, typer.Option(help="The client's id there.")],
    public: Annotated[bool, typer.Option("--public", help="The client has no secret.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="Default: openid, email, profile.")] = None,
    groups_claim: Annotated[str, typer.Option(help="Claim that names groups; dots go deeper.")] = "groups",
    group_role: Annotated[
        list[str] | None, typer.Option(help="group=role, or group=role@workspace; may be repeated.")
    ] = None,
    default_role: Annotated[
        str | None, typer.Option(help="role, or role@workspace, of those whom no group places.")
    ] = None,
    domain: Annotated[list[str] | None, typer.Option(help="Of the addresses it may speak for.")] = None,
    covers_second_factor: Annotated[
        bool, typer.Option("--covers-second-factor", help="Signing in there counts as a second factor.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Add one. The client's secret is asked for, or read from standard input."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.providers import ProviderSpec, described
    from sluiceway.identity.providers import add as add_provider
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command

    settings = load_settings()
    secret = None if public else _secret()
    with _providers_of(workspace) as (database, connection, room):
        role, at = _role_at(connection, room, default_role) if default_role else (None, None)
        spec = ProviderSpec(
            name, issuer, client_id, tuple(scope or ("openid", "email", "profile")), groups_claim,
            _group_roles(connection, room, group_role or []), tuple(domain or ()), at, role,
            covers_second_factor,
        )  # fmt: skip
        made = add_provider(connection, database.envelope, spec, secret, _private_hosts())
        note_command(
            connection, Action.PROVIDER_ADDED, target="identity_provider", target_id=made.id,
            after=described(made.spec),
        )  # fmt: skip
    typer.echo(f"{made.id} is added. Register there: {settings.public_url}/sign-in/provider/callback")


@providers.command()
def change(
    provider_id: ProviderId,
    name: Annotated[str | None, typer.Option(help="What its button says.")] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Its address; with another one people are linked anew.")
    ] = None,
    client_id: Annotated[str | None, typer.Option(help="The client's id there.")] = None,
    secret: Annotated[
        bool, typer.Option("--secret", help="Ask for another secret, or read it from standard input.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="The client has no secret any more.")] = False,
    scope: Annotated[list[str] | None, typer.Option(help="All of them; may be repeated.")] = None,
    groups_claim: Annotated[str | None, typer.Option(help="Claim that names groups.")] = None,
    group_role: Annotated[
        list[str] | None, typer.Option(help="All of them: group=role, or group=role@workspace; -: none.")
    ] = None,
    default_role: Annotated[str | None, typer.Option(help="role, or role@workspace; -: none.")] = None,
    domain: Annotated[list[str] | None, typer.Option(help="All of them; -: any address.")] = None,
    covers_second_factor: Annotated[
        bool | None, typer.Option(help="Whether signing in there counts as a second factor.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Off ends sessions that came through it.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Change what is named; the rest stays."""
    from sluiceway.identity.providers import get

    if secret and public:
        raise typer.BadParameter("goes without --public", param_hint="--secret")
    told = "" if public else _secret() if secret else None
    given = {
        "name": name, "issuer": issuer, "client_id": client_id, "groups_claim": groups_claim,
        "covers_second_factor": covers_second_factor, "enabled": enabled, "scopes": scope, "domains": domain,
        "group_roles": group_role, "default_role": default_role,
    }  # fmt: skip
    with _providers_of(workspace) as (database, connection, room):
        wanted = _changed(connection, room, get(connection, provider_id).spec, given)
        after = _keep_change(database, connection, provider_id, wanted, told)
    typer.echo(f"{after.name} is changed.")


@providers.command()
def remove(provider_id: ProviderId, workspace: WorkspaceOption = None) -> None:
    """Remove one: sessions that came through it end."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.providers import described
    from sluiceway.identity.providers import remove as remove_provider
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, _):
        gone = remove_provider(connection, provider_id)
        note_command(
            connection, Action.PROVIDER_REMOVED, target="identity_provider", target_id=provider_id,
            before=described(gone.spec),
        )  # fmt: skip
    typer.echo(f"{gone.spec.name} is removed.")


@providers.command()
def check(provider_id: ProviderId, workspace: WorkspaceOption = None) -> None:
    """Ask it what it says of itself."""
    from sluiceway.identity.oidc import ProviderClient
    from sluiceway.identity.providers import get

    with in_workspace(workspace) as (connection, _):
        found = get(connection, provider_id)
    said = ProviderClient(_private_hosts()).discover(found.spec.issuer)
    typer.echo(f"authorization: {said.authorization_endpoint}")
    typer.echo(f"tokens:        {said.token_endpoint}")
    typer.echo(f"keys:          {said.jwks_uri}")


def register(users: typer.Typer) -> None:
    """Add to `sluiceway user` what helps who cannot sign in."""
    users.command("reset-link")(reset_link)
    users.command("forget-second-factor")(forget_second_factor)


def reset_link(email: Email) -> None:
    """Print a link with which the person sets a new password; good for an hour, and once."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.own_password import begin_reset
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command

    with in_workspace(None) as (connection, _):
        user_id = _person(connection, email)
        token = begin_reset(connection, user_id, now=datetime.now(UTC))
        note_command(connection, Action.PERSON_RESET_ASKED, target="user", target_id=user_id)
    typer.echo(f"{load_settings().public_url}/reset?token={token}")


def forget_second_factor(email: Email) -> None:
    """Remove app, recovery codes and passkeys of who lost them; the person's sessions end."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity import devices, factors, passkeys, service, sessions
    from sluiceway.runtime.auditing import note_command

    with in_workspace(None) as (connection, _):
        user_id = _person(connection, email)
        service.act_for(connection, user_id)
        had_app = factors.remove_totp(connection, user_id)
        count = passkeys.remove(connection, user_id)
        devices.forget_all(connection, user_id)
        sessions.end_own(connection, user_id)
        note_command(connection, Action.SECOND_FACTOR_REMOVED, target="user", target_id=user_id)
    typer.echo(f"{email} has no second factor now (was: {'app, ' if had_app else ''}{count} passkeys).")


@contextmanager
def _providers_of(workspace: str | None) -> "Iterator[tuple[Database, sa.Connection, int]]":
    """A transaction that acts for the workspace, beside the database whose key seals secrets."""
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.commands.workspace import enter
    from sluiceway.runtime.sessions import command_database

    with command_database(load_settings()) as database, database.transaction(Role.APP) as connection:
        yield database, connection, enter(connection, workspace)


def _changed(
    connection: "sa.Connection", room: int, before: "ProviderSpec", given: dict[str, Any]
) -> "ProviderSpec":
    """The provider with what was given; `-` stands for none."""
    from dataclasses import replace

    found = {name: value for name, value in given.items() if value is not None}
    for name in ("scopes", "domains", "group_roles"):
        if name in found:
            found[name] = tuple(text for text in found[name] if text != "-")
    if "group_roles" in found:
        found["group_roles"] = _group_roles(connection, room, found["group_roles"])
    if (told := found.get("default_role")) is not None:
        role, at = (None, None) if told == "-" else _role_at(connection, room, told)
        found |= {"default_role": role, "default_workspace_id": at}
    return replace(before, **found)


def _keep_change(
    database: "Database",
    connection: "sa.Connection",
    provider_id: UUID,
    wanted: "ProviderSpec",
    secret: str | None,
) -> "ProviderSpec":
    from sluiceway.audit.actions import Action
    from sluiceway.identity.providers import change as change_provider
    from sluiceway.identity.providers import described
    from sluiceway.runtime.auditing import note_command

    before, after = change_provider(
        connection, database.envelope, provider_id, wanted, _private_hosts(), secret=secret
    )
    detail = {"client_secret_changed": True} if before.sealed != after.sealed else None
    note_command(
        connection, Action.PROVIDER_CHANGED, target="identity_provider", target_id=provider_id,
        before=described(before.spec), after=described(after.spec), detail=detail,
    )  # fmt: skip
    return after.spec


def _private_hosts() -> "PrivateHosts":
    from sluiceway.infra.outbound import PrivateHosts
    from sluiceway.infra.settings import load_settings

    return PrivateHosts(load_settings().private_hosts)


def _person(connection: "sa.Connection", email: str) -> UUID:
    from sluiceway.identity.service import find_user
    from sluiceway.kit.errors import NotFound

    user = find_user(connection, email)
    if user is None:
        raise NotFound(f"Nobody has the address {email}.")
    return user.id


def _secret() -> str:
    if sys.stdin.isatty():
        answer: str = typer.prompt("The client's secret", hide_input=True)
        return answer
    return sys.stdin.readline().rstrip("\r\n")


def _group_roles(connection: "sa.Connection", room: int, texts: Iterable[str]) -> "tuple[GroupRole, ...]":
    from sluiceway.identity.providers import GroupRole

    found = []
    for text in texts:
        group, equals, role = text.rpartition("=")
        if not equals:
            raise typer.BadParameter("should be group=role", param_hint="--group-role")
        slug, workspace_id = _role_at(connection, room, role)
        found.append(GroupRole(group, workspace_id, slug))
    return tuple(found)


def _role_at(connection: "sa.Connection", room: int, text: str) -> tuple[str, int]:
    """`role` in the command's workspace, `role@workspace` in another of its organization."""
    from sluiceway.identity.service import find_workspace
    from sluiceway.kit.errors import NotFound

    role, at, slug = text.partition("@")
    if not at:
        return role, room
    workspace_id = find_workspace(connection, slug)
    if workspace_id is None:
        raise NotFound(f"There is no workspace {slug!r}.")
    return role, workspace_id
