"""The command `sluiceway`. Each command reads settings, calls one function and prints; errors are one line.

Everything heavy is imported inside the command that needs it: the program must start in a moment.
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from sluiceway.kit.errors import InvalidInput, SluicewayError
from sluiceway.runtime.commands import (
    audits,
    invitations,
    keys,
    links,
    members,
    operations,
    organizations,
    privacy,
    roles,
    rules,
    sealing,
    secrets,
    service_accounts,
    sessions,
    sign_in,
    spools,
    teams,
    usage,
    users,
    verifying,
)
from sluiceway.runtime.commands.workspace import WorkspaceOption

app = typer.Typer(
    name="sluiceway",
    help="From a webhook to a live, trusted number: run and manage a Sluiceway installation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
privacy.register(users.app)
app.add_typer(users.app, name="user")
sign_in.register(users.app)
app.add_typer(sessions.app, name="session")
app.add_typer(sign_in.app, name="sign-in")
app.add_typer(sign_in.providers, name="identity-provider")
app.add_typer(members.app, name="member")
app.command("invite")(invitations.invite)
app.add_typer(invitations.app, name="invitation")
app.add_typer(roles.app, name="role")
app.add_typer(teams.app, name="team")
app.add_typer(organizations.app, name="workspace")
app.add_typer(organizations.organizations, name="organization")
app.add_typer(keys.app, name="key")
app.add_typer(service_accounts.app, name="service-account")
app.add_typer(links.app, name="link")
app.add_typer(rules.app, name="rule")
app.add_typer(audits.app, name="audit")
app.add_typer(spools.app, name="spool")
app.add_typer(secrets.app, name="secret")
app.add_typer(sealing.app, name="secrets")
app.add_typer(usage.app, name="quota")
app.command("usage")(usage.usage)
operations.register(app)
verifying.register(app)


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Load the demo's data and replay today's flights.")
    ] = False,
    dagster: Annotated[bool, typer.Option(help="Run Dagster too.")] = True,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.up import up as run

    raise typer.Exit(run(load_settings(), demo=demo, dagster=dagster))


@app.command()
def demo(
    speed: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help="How many times faster than the clock; default: SLUICEWAY_DEMO_SPEED."
        ),
    ] = None,
    load_only: Annotated[bool, typer.Option("--load-only", help="Load the year and end.")] = False,
) -> None:
    """Send the demo's data to the platform that runs: the past year, then today's flights on a clock."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.demo.run import run_demo

    raise typer.Exit(run_demo(load_settings(), speed=speed, load_only=load_only))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from sluiceway.infra.keys import load_secret_key
    from sluiceway.infra.settings import load_settings
    from sluiceway.migrations import migrate as run
    from sluiceway.runtime.identity_provider import keep_provider
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    with command_database(settings, migrated=False) as database:
        run(database, load_secret_key(settings))
        keep_provider(settings, database)
    typer.echo("The database is at the newest schema.")


@app.command()
def apply(
    files: Annotated[
        list[Path],
        typer.Argument(help="YAML files of kind Pipeline, Suite, Rule or Dashboard; - reads standard input."),
    ],
    workspace: WorkspaceOption = None,
) -> None:
    """Apply files: what changed becomes a new version, what did not stays as it is."""
    from sluiceway.runtime.commands.applying import apply_files
    from sluiceway.runtime.commands.workspace import on_database

    with on_database(workspace) as (database, room):
        failed = apply_files(database, room, files, typer.echo)
    raise typer.Exit(2 if failed else 0)


@app.command()
def export(
    names: Annotated[list[str] | None, typer.Argument(help="Names; default: all.")] = None,
    kind: Annotated[str, typer.Option(help="pipeline, suite, rule or dashboard.")] = "pipeline",
    into: Annotated[
        Path | None, typer.Option(help="A folder to write one file each into; default: print.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Print pipelines, suites, rules or dashboards as the YAML they were applied as."""
    from sluiceway.runtime.commands.applying import export_documents
    from sluiceway.runtime.commands.workspace import on_database

    with on_database(workspace) as (database, room):
        export_documents(database, room, kind.lower(), names or [], into, typer.echo)


@app.command()
def replay(
    pipeline: Annotated[str, typer.Argument(help="The pipeline's name.")],
    first: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of receipt (UTC).")
    ],
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day; default: the first.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Derive silver anew from bronze, for events received on these days."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.commands.replaying import replay_days
    from sluiceway.runtime.commands.workspace import on_database

    until = (last or first).date()
    with on_database(workspace) as (database, room):
        replay_days(load_settings(), database, room, pipeline, first.date(), until, typer.echo)


def main() -> NoReturn:
    """Run the command; expected errors are one line; exit code 2: wrong input, 1: anything else."""
    try:
        app()
    except SluicewayError as error:
        fail(error)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except OSError as error:
        fail_with(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("psycopg", "sqlalchemy"):
            fail_with(f"The database refused: {' '.join(str(error).split())[:300]}", 1)
        raise
    raise SystemExit(0)


def fail(error: SluicewayError) -> NoReturn:
    """Print an expected error and end."""
    fail_with(error.detail, 2 if isinstance(error, InvalidInput) else 1)


def fail_with(sentence: str, code: int) -> NoReturn:
    from sluiceway.infra.redaction import redact

    sys.stderr.write(f"sluiceway: {redact(sentence)}\n")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
