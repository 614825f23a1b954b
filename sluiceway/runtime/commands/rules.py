"""`sluiceway rule`: row rules and column masks. Files are applied with `apply` and written with `export`."""

from datetime import UTC
from typing import Annotated

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, in_workspace

app = typer.Typer(help="List, apply, look at and delete row rules and column masks.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The rule's name.")]


@app.command("list")
def list_(workspace: WorkspaceOption = None) -> None:
    """List rules: what each is on, whom it concerns, what it does."""
    from sluiceway.rules.service import list_rules

    with in_workspace(workspace) as (connection, room):
        found = list_rules(connection, room)
    for rule in found:
        spec = rule.spec
        concerned = ",".join(spec.roles) or "everyone"
        if spec.exempt:
            concerned += " but " + ",".join(spec.exempt)
        does = [spec.rows] if spec.rows is not None else []
        does += [f"{mask.field}: {mask.kind}" for mask in spec.masks]
        thing = spec.pipeline or f"marts.{spec.model_name}"
        typer.echo(f"{rule.name:24} v{rule.version:<4} {thing:32} {concerned:32} {'; '.join(does)}")


@app.command()
def apply(
    file: Annotated[typer.FileText, typer.Argument(help="A YAML file of kind Rule; - reads standard input.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Create or replace a rule. The database holds to it from then on."""
    from sluiceway.rules.service import parse
    from sluiceway.runtime.applying import apply_source
    from sluiceway.runtime.auditing import operator
    from sluiceway.runtime.commands.workspace import on_database

    source = file.read()
    parse(source)
    with on_database(workspace) as (database, room):
        applied = apply_source(database, room, source, actor=operator())
    typer.echo(f"{applied.kind} {applied.name}: {applied.outcome}, version {applied.version}")


@app.command()
def show(name: Name, workspace: WorkspaceOption = None) -> None:
    """Print a rule as the YAML it was applied as."""
    from sluiceway.rules.service import get_rule, to_yaml

    with in_workspace(workspace) as (connection, room):
        typer.echo(to_yaml(connection, get_rule(connection, room, name)).rstrip("\n"))


@app.command()
def versions(name: Name, workspace: WorkspaceOption = None) -> None:
    """List every version a rule had, newest first."""
    from sluiceway.rules.service import list_versions

    with in_workspace(workspace) as (connection, room):
        found = list_versions(connection, room, name)
    for version in found:
        when = version.created_at.astimezone(UTC)
        typer.echo(
            f"{version.version:<6} {when:%Y-%m-%d %H:%M} {'deleted' if version.deleted else ''}".rstrip()
        )


@app.command()
def delete(name: Name, workspace: WorkspaceOption = None) -> None:
    """End a rule: what it kept from view is seen again. Its versions stay."""
    import sqlalchemy as sa

    from sluiceway.audit.actions import Action
    from sluiceway.rules.contracts import Saved
    from sluiceway.rules.service import delete_rule
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.commands.workspace import on_database

    def beside(connection: sa.Connection, saved: Saved) -> None:
        note_command(
            connection, Action.RULE_DELETED, target="rule", target_id=name, before=saved.rule.spec.document()
        )

    with on_database(workspace) as (database, room):
        delete_rule(database, room, name, beside=beside)
    typer.echo(f"{name} is deleted.")
