"""`sluiceway role`: a workspace's own roles, beside the five that every workspace has."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

app = typer.Typer(help="List, make, change and remove roles.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(help="The role's slug, as `role list` shows it.")]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--permission", help="One of those `role permissions` lists; may be repeated."),
]


@app.command("list")
def list_(workspace: WorkspaceOption = None) -> None:
    """List roles with what they allow."""
    from sluiceway.identity.roles import list_roles

    with in_workspace(workspace) as (connection, room):
        found = list_roles(connection, room)
    for role in found:
        kind = "built in" if role.builtin else "own"
        typer.echo(f"{role.slug:20} {kind:8} {role.members:4} members  {role.name}")
        typer.echo(f"{'':20} {', '.join(sorted(role.permissions))}")


@app.command()
def permissions() -> None:
    """List the permissions that a role can be made of."""
    from sluiceway.identity.permissions import GRANTABLE

    for permission in sorted(GRANTABLE):
        typer.echo(permission)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What people read.")],
    allowed: Allowed = None,
    slug: Annotated[str | None, typer.Option(help="Default: made from the name.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Make a role."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.roles import create_role
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        made = create_role(
            connection, room, name, allowed or [], giver=None, slug=slug, description=description
        )
        note_command(
            connection, Action.ROLE_CREATED, target="role", target_id=made.slug,
            after={"name": made.name, "permissions": sorted(made.permissions)},
        )  # fmt: skip
    typer.echo(f"{made.slug} allows {', '.join(sorted(made.permissions))}.")


@app.command()
def change(
    slug: Slug,
    allowed: Allowed = None,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    description: Annotated[str | None, typer.Option(help="Another description.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Change a role; what is not named stays. The options name all its permissions."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.roles import change_role
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        before, after = change_role(
            connection, room, slug, giver=None, now=datetime.now(UTC), name=name, description=description,
            permissions=allowed,
        )  # fmt: skip
        note_command(
            connection, Action.ROLE_CHANGED, target="role", target_id=slug,
            before={"name": before.name, "permissions": sorted(before.permissions)},
            after={"name": after.name, "permissions": sorted(after.permissions)},
        )  # fmt: skip
    typer.echo(f"{slug} allows {', '.join(sorted(after.permissions))}.")


@app.command()
def delete(slug: Slug, workspace: WorkspaceOption = None) -> None:
    """Remove a role that nobody has."""
    from sluiceway.audit.actions import Action
    from sluiceway.identity.roles import delete_role
    from sluiceway.rules.service import count_naming
    from sluiceway.runtime.auditing import note_command

    with in_workspace(workspace) as (connection, room):
        rules = count_naming(connection, room, slug)
        gone = delete_role(connection, room, slug, giver=None, rules=rules)
        note_command(
            connection, Action.ROLE_DELETED, target="role", target_id=slug,
            before={"name": gone.name, "permissions": sorted(gone.permissions)},
        )  # fmt: skip
    typer.echo(f"{slug} is gone.")
