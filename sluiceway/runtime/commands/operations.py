"""Commands that look after an installation: its database, dbt, its health, one process of it."""

import json
import os
import sys
from typing import Annotated

import typer

PROCESSES = ("web", "ingest", "loader", "worker", "dagster-code", "dagster-web", "dagster-daemon")
_LIBPQ = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("db-url")(db_url)
    passed_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command("psql", context_settings=passed_on)(psql)
    app.command("dbt", context_settings=passed_on)(dbt)
    app.command("doctor")(doctor)
    app.command("schema")(schema)
    app.command("process")(process)
    app.command("init")(init)
    app.command("healthy")(healthy)


def db_url() -> None:
    """Print the database's address (the owner's). With an outside server it holds its password."""
    from sluiceway.infra.connect import owner_url
    from sluiceway.infra.settings import load_settings

    typer.echo(owner_url(load_settings()))


def psql(context: typer.Context) -> None:
    """Open the database with psql; further arguments go to psql (for example -c 'SELECT 1')."""
    import shutil
    import subprocess

    from psycopg.conninfo import conninfo_to_dict

    from sluiceway.infra.connect import owner_url
    from sluiceway.infra.embedded import binary
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.environment import inherited
    from sluiceway.runtime.sessions import running_server

    settings = load_settings()
    program = binary("psql")
    command = [str(program) if program.exists() else shutil.which("psql") or "psql", *context.args]
    # Through the environment, not the arguments: every account of the machine can read those.
    found = conninfo_to_dict(owner_url(settings))
    environment = inherited({_LIBPQ[k]: str(v) for k, v in found.items() if k in _LIBPQ})
    with running_server(settings):
        raise typer.Exit(subprocess.run(command, env=environment, check=False).returncode)


def dbt(context: typer.Context) -> None:
    """Run dbt on the project with this installation's profile (for example: sluiceway dbt test)."""
    import subprocess

    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.gold import dbt_command, dbt_environment
    from sluiceway.runtime.profiles import DBT_PROJECT, write_profiles
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    with command_database(settings) as database:
        profiles = write_profiles(settings, database)
        command = dbt_command(DBT_PROJECT, profiles, *(context.args or ["--help"]))
        raise typer.Exit(subprocess.run(command, env=dbt_environment(), check=False).returncode)


def doctor(
    lake: Annotated[
        bool, typer.Option("--lake", help="Read every byte of the lake, not only what is newest.")
    ] = False,
) -> None:
    """Check the installation: each line is one thing and, if it is wrong, what to do."""
    from sluiceway.runtime.doctor import examine

    findings = examine(whole_lake=lake)
    for finding in findings:
        typer.echo(finding.line())
    wrong = sum(finding.state == "wrong" for finding in findings)
    typer.echo("" if wrong else "Everything is in order.", nl=not wrong)
    raise typer.Exit(1 if wrong else 0)


def schema(kind: Annotated[str, typer.Argument(help="pipeline, suite, rule or dashboard.")]) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    from sluiceway.runtime.commands.applying import schema_of

    typer.echo(json.dumps(schema_of(kind.lower()), indent=2, ensure_ascii=False))


def process(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(PROCESSES)}.")],
) -> None:
    """Run one process of the platform in the foreground (a container, a service manager)."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.kit.errors import InvalidInput
    from sluiceway.runtime.dagster_home import storage_environment
    from sluiceway.runtime.environment import child_environment

    settings = load_settings()
    if name not in PROCESSES:
        raise InvalidInput(f"There is no process {name!r}; there are {', '.join(PROCESSES)}.")
    if name.startswith("dagster-"):
        command = _dagster_command(name)
    elif name == "ingest":
        command = [sys.executable, "-m", "sluiceway.runtime.processes.web", "--ingest-only"]
    else:
        command = [sys.executable, "-m", f"sluiceway.runtime.processes.{name}"]
    sys.stdout.flush()
    extra = storage_environment(settings) if name.startswith("dagster-") else None
    os.execve(command[0], command, child_environment(settings, extra))  # noqa: S606  # takes this process's place


def _dagster_command(name: str) -> list[str]:
    from sluiceway.infra.settings import load_settings
    from sluiceway.kit.errors import InvalidInput
    from sluiceway.runtime.dagster_home import commands, write_dagster_home, write_workspace

    settings = load_settings()
    if settings.dagster_code_port is None:
        raise InvalidInput("Set SLUICEWAY_DAGSTER_CODE_PORT to the port of Dagster's code server.")
    write_dagster_home(settings)
    write_workspace(settings, settings.dagster_code_port, settings.dagster_code_host)
    return commands(settings, settings.dagster_code_port)[name]


def init(
    demo: Annotated[
        bool, typer.Option("--demo", help="Apply the demo's pipelines and dashboards too.")
    ] = False,
) -> None:
    """Prepare the database without starting anything: schema, first person, platform health, gold."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.prepare import Messages, build_gold, prepare_schema
    from sluiceway.runtime.sessions import command_database

    class Lines(Messages):
        def tell(self, **message: object) -> None:
            if "end" in message:
                typer.echo(f"{message['end']}: done {message.get('note', '')}".rstrip())

    settings = load_settings()
    messages = Lines(sys.stdout)
    with command_database(settings, migrated=False):
        prepared = prepare_schema(settings, messages, demo=demo)
        build_gold(settings, messages)
    if prepared["sign_in"]:
        typer.echo("sign in: {}  {}".format(*prepared["sign_in"]))


def healthy(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(PROCESSES)}.")],
) -> None:
    """Tell (by the exit code) whether a process does its work: for a container's health check."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.kit.errors import InvalidInput
    from sluiceway.runtime.liveness import problem_of

    if name not in PROCESSES:
        raise InvalidInput(f"There is no process {name!r}; there are {', '.join(PROCESSES)}.")
    problem = problem_of(name, load_settings())
    typer.echo(problem or "healthy")
    raise typer.Exit(1 if problem else 0)
