"""`verify`: a sender's ledger (or the layers by themselves) against what the installation holds."""

import json
import sys
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluiceway.runtime.commands.workspace import WorkspaceOption, on_database

if TYPE_CHECKING:
    from sluiceway.infra.database import Database
    from sluiceway.infra.settings import Settings
    from sluiceway.ingestion.contracts import Position
    from sluiceway.verification.contracts import Report

_TELL_EVERY_S = 2.0
_DAY = timedelta(days=1)
_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def _end(text: str) -> datetime:
    """A bare date is taken whole; a time is that moment, midnight too."""
    day, moment = _DAYS
    for form, more in ((day, _DAY), (moment, timedelta(0))):
        with suppress(ValueError):
            return datetime.strptime(text, form) + more  # noqa: DTZ007  # as `--from` gives it
    raise typer.BadParameter(f"{text!r} is neither a date ({day}) nor a time ({moment}).")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("verify")(verify)


def verify(
    ledger: Annotated[
        Path | None, typer.Option(help="The ids a sender was told are accepted: NDJSON, CSV, or one a line.")
    ] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option(help="Only this pipeline; may be repeated; whose the ids of a plain ledger are."),
    ] = None,
    consumer: Annotated[
        Path | None,
        typer.Option(help="What a consumer of the stream received: NDJSON or CSV of seq, event_id."),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=_DAYS, help="Only events received from this day (UTC)."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option(
            "--to",
            parser=_end,
            metavar=f"[{'|'.join(_DAYS)}]",
            help="To this day (with it), or before this time.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Wait up to so many seconds until this machine's spools are empty.")
    ] = 0.0,
    show: Annotated[int, typer.Option(min=0, help="How many ids of a kind are named.")] = 20,
    exact: Annotated[bool, typer.Option("--exact", help="What is extra fails the verification too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Prove that what was acknowledged is there, once, in every layer; exit code 1: it is not."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.verification.wording import as_text

    settings = load_settings()
    telling = _Telling()
    with on_database(workspace) as (database, room):
        read_to = _settle(settings, database, wait, telling)
        report = _run(
            settings, database, room, ledger, pipeline or [], consumer, first, last, show, read_to, telling
        )
    telling.end()
    if as_json:
        found = report.as_dict()
        typer.echo(json.dumps({**found, "passed": report.passed(exact=exact)}, indent=2, ensure_ascii=False))
    else:
        typer.echo(as_text(report, exact=exact))
    raise typer.Exit(0 if report.passed(exact=exact) else 1)


def _run(
    settings: "Settings",
    database: "Database",
    workspace_id: int,
    ledger: Path | None,
    pipelines: list[str],
    consumer: Path | None,
    first: datetime | None,
    last: datetime | None,
    show: int,
    read_to: "dict[str, Position]",
    telling: "_Telling",
) -> "Report":
    from sluiceway.lake.service import Lake
    from sluiceway.verification.ledger import ConsumerList, Ledger
    from sluiceway.verification.service import verify

    whose = pipelines[0] if len(pipelines) == 1 else None
    return verify(
        database,
        Lake(settings),
        None if ledger is None else Ledger(ledger, whose),
        pipelines=pipelines,
        workspace_id=workspace_id,
        consumer=None if consumer is None else ConsumerList(consumer, whose),
        received_from=first,
        received_to=last,
        bronze_read_to=read_to,
        first=show,
        max_event_bytes=settings.max_event_bytes,
        progress=telling,
    )


def _settle(
    settings: "Settings", database: "Database", wait: float, telling: "_Telling"
) -> "dict[str, Position]":
    """How far each of this machine's spools is in the lake, once they are empty or the time is over."""
    from sluiceway.verification.drain import wait_until_drained

    if wait:
        telling(f"waiting up to {wait:g} s for the spools", 0, None)
    states = wait_until_drained(database, settings.spool_dir.parent, wait)
    for state in states:
        if wait and not state.drained:
            what = " and ".join(
                text
                for text, waits in (
                    ("to be loaded", state.to_load),
                    ("to be written to the lake", state.to_keep),
                )
                if waits
            )
            telling.say(f"after {wait:g} s events of node {state.node} still wait {what}")
    return {state.node: state.bronze_read_to for state in states}


class _Telling:
    """Progress on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told_at = time.monotonic()
        self._open = False

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told_at < (0.1 if self._terminal else _TELL_EVERY_S):
            return
        self._told_at = now
        figures = f" {done:,}" if total is None and done else f" {done:,} of {total:,}" if total else ""
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{what}{figures} …")
            sys.stderr.flush()
            self._open = True
        else:
            self.say(f"{what}{figures} …")

    def say(self, text: str) -> None:
        self.end()
        sys.stderr.write(text + "\n")

    def end(self) -> None:
        """Take the changing line away."""
        if self._open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._open = False
