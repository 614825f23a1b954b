"""`sluiceway service-account`: members that are programs, and their keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from sluiceway.kit.errors import FieldError
from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

app = typer.Typer(help="Make and manage service accounts.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The account's name.")]


@app.command()
def create(
    name: Name,
    roles: Annotated[
        list[str], typer.Option("--role", help="A role, built in or the workspace's own; may be repeated.")
    ],
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    attributes: Annotated[
        list[str] | None,
        typer.Option("--attribute", help="For row rules: name=value; may be repeated."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a service account. `service-account key` makes keys for it."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.service_accounts import create_account
    from sluiceway.runtime.auditing import note_command

    values = _attributes(attributes or [])
    with in_workspace(workspace) as (connection, room):
        made = create_account(
            connection, room, name, roles, giver=None, description=description, attributes=values
        )
        note_command(
            connection, Action.SERVICE_ACCOUNT_CREATED, target="service_account", target_id=made.id,
            after={"name": made.name, "roles": list(made.roles), "attributes": values},
        )  # fmt: skip
    typer.echo(f"{made.name} is a service account with {', '.join(made.roles)}.")


@app.command("list")
def list_(workspace: WorkspaceOption = None) -> None:
    """List service accounts."""
    from sluiceway.identity.service_accounts import list_accounts

    with in_workspace(workspace) as (connection, room):
        found = list_accounts(connection, room)
    for account in found:
        state = "active" if account.disabled_at is None else "disabled"
        typer.echo(f"{account.name:40} {state:8} {','.join(account.roles):24} {account.description}")


@app.command()
def key(
    name: Name,
    label: Annotated[str | None, typer.Option("--name", help="What the key is for.")] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="Narrows it: ingest, read or manage; default: all the roles allow."),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="How many days it is valid; default: for ever.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Make a key for a service account and print it, and nothing else. It cannot be shown again."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.keys import create_key, parse_key
    from sluiceway.identity.permissions import Scope
    from sluiceway.identity.service_accounts import find_account
    from sluiceway.runtime.auditing import note_command

    wanted = scopes or [Scope.ACCOUNT.value]
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with in_workspace(workspace) as (connection, room):
        account = find_account(connection, room, name)
        text = create_key(
            connection, room, label or account.name, wanted, expires_at=expires, account_id=account.id
        )
        note_command(
            connection, Action.KEY_CREATED, target="key", target_id=parse_key(text)[0],
            after={
                "name": label or account.name, "scopes": wanted, "expires_at": expires,
                "service_account": str(account.id),
            },
        )  # fmt: skip
    typer.echo(text)


@app.command()
def disable(name: Name, workspace: WorkspaceOption = None) -> None:
    """Refuse an account's keys from now on; it and they stay."""
    _set_disabled(name, workspace, True)
    typer.echo(f"The keys of {name} are refused.")


@app.command()
def enable(name: Name, workspace: WorkspaceOption = None) -> None:
    """Let an account's keys in again."""
    _set_disabled(name, workspace, False)
    typer.echo(f"The keys of {name} work again.")


@app.command()
def delete(name: Name, workspace: WorkspaceOption = None) -> None:
    """Remove a service account and its keys."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.service_accounts import delete_account, find_account
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        gone = delete_account(connection, room, find_account(connection, room, name).id)
        note_command(
            connection, Action.SERVICE_ACCOUNT_DELETED, target="service_account", target_id=gone.id,
            before={"name": gone.name, "roles": list(gone.roles)},
        )  # fmt: skip
    typer.echo(f"{gone.name} and its keys are gone.")


def _set_disabled(name: str, workspace: str | None, disabled: bool) -> None:
    from sluiceway.audit.actions import Action
    from sluiceway.identity.service_accounts import change_account, find_account
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        before = find_account(connection, room, name)
        change_account(connection, room, before.id, giver=None, now=datetime.now(UTC), disabled=disabled)
        note_command(
            connection, Action.SERVICE_ACCOUNT_CHANGED, target="service_account", target_id=before.id,
            before={"disabled": before.disabled_at is not None}, after={"disabled": disabled},
        )  # fmt: skip


def _attributes(texts: list[str]) -> dict[str, list[str]]:
    """Raises `InvalidServiceAccount` for one without an equals sign."""
    from sluiceway.identity.errors import InvalidServiceAccount

    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problem = FieldError("attribute", f"{text!r} should be name=value")
            raise InvalidServiceAccount(f"{text!r} is no attribute: write name=value.", errors=[problem])
        found.setdefault(name, []).append(value)
    return found
