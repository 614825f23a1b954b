"""`python -m sluiceway.runtime.reference`: writes the tables in docs/ that say what the code says.

docs/settings.md comes from `SETTINGS`, docs/cli.md from the commands themselves, docs/metrics.md from the
figures; a test holds all of them true.
"""

import sys
from pathlib import Path
from typing import Any

from sluiceway.infra.metrics import PIPELINE_FIGURES, PLATFORM_FIGURES, PROCESS_FIGURES, Figure
from sluiceway.infra.settings import SETTINGS

DOCS = Path(__file__).parents[2] / "docs"

_SETTINGS_HEAD = """# Settings

Every setting is an environment variable, read in one place and checked at start: a wrong value, or a
`SLUICEWAY_…` variable that is none of these, stops the process with a line that names it and says what it
should be. Secrets are never logged or shown. This table is made from the code (`make docs`).

| variable | default | meaning |
|---|---|---|
"""
_METRICS_HEAD = """# Metrics

`GET /metrics` of a web or ingest process, for Prometheus. How to scrape, and what to alert on:
[observability](observability.md). This page is made from the code (`make docs`).
"""
_METRICS_COLUMNS = "| name | kind | labels | meaning |\n|---|---|---|---|\n"
_METRICS_PARTS = (
    (
        "Of every process",
        "Counted where it happens. A scrape holds all processes of the node, told apart by the labels `node`"
        " and `process` (`web`, `ingest`, `loader`, `worker`), besides those below. The `process_…` and"
        " `python_…` families of Prometheus' client come with them.",
        PROCESS_FIGURES,
    ),
    ("Of the node and the platform", "Asked when the web process is scraped.", PLATFORM_FIGURES),
    (
        "Of a workspace's pipelines",
        "Only with the workspace's key of scope `read` (`Authorization: Bearer …`).",
        PIPELINE_FIGURES,
    ),
)
_CLI_HEAD = """# Command line

`sluiceway` reads [settings](settings.md) from the environment. What goes wrong is one line on standard error;
exit code 2 means that the input (a setting, an argument, a file) is wrong, 1 anything else. With the embedded
database a command works whether the platform runs or not: it starts the server for its own duration if it
has to. This page is made from the code (`make docs`).
"""


def settings_page() -> str:
    """docs/settings.md."""
    rows = []
    for setting in SETTINGS.values():
        default = "" if setting.default is None else f"`{setting.default}`"
        meaning = setting.meaning + (" **Secret.**" if setting.secret else "")
        rows.append(f"| `{setting.variable}` | {default} | {meaning.replace('|', chr(92) + '|')} |")
    return _SETTINGS_HEAD + "\n".join(rows) + "\n"


def metrics_page() -> str:
    """docs/metrics.md."""
    parts = [_METRICS_HEAD]
    for title, text, figures in _METRICS_PARTS:
        rows = "\n".join(_figure_row(figure) for figure in figures)
        parts.append(
            f"\n## {title}\n{text}\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n{rows}\n"
        )
    return "".join(parts)


def _figure_row(figure: Figure) -> str:
    labels = ", ".join(f"`{label}`" for label in figure.labels)
    return f"| `{figure.name}` | {figure.kind} | {labels} | {figure.meaning} |"


def cli_page() -> str:
    """docs/cli.md."""
    from typer.main import get_command

    from sluiceway.runtime.cli import app

    parts = [_CLI_HEAD]
    for name, command in sorted(_commands(get_command(app))):
        arguments = " ".join(_metavar(p) for p in command.params if p.param_type_name == "argument")
        parts.append(f"\n## sluiceway {name}{' ' + arguments if arguments else ''}\n\n{command.help}\n")
        options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
        if options:
            parts.append("\n| option | meaning |\n|---|---|\n")
            for option in options:
                shown = ", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts))
                parts.append(f"| {shown} | {getattr(option, 'help', None) or ''} |\n")
    return "".join(parts)


def _commands(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += _commands(command, f"{prefix}{name} ")
        else:
            found.append((f"{prefix}{name}", command))
    return found


def _metavar(argument: Any) -> str:
    shown = (argument.metavar or argument.name or "").upper() + ("…" if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def main() -> int:
    for name, text in (
        ("settings.md", settings_page()),
        ("cli.md", cli_page()),
        ("metrics.md", metrics_page()),
    ):
        (DOCS / name).write_text(text)
        sys.stdout.write(f"{DOCS / name}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
