"""`sluiceway audit`: check, search and export the audit log."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sluiceway.audit.contracts import AuditEntry
    from sluiceway.audit.reading import Search
    from sluiceway.audit.verification import Head, Verification
    from sluiceway.infra.database import Database

app = typer.Typer(help="Check, search and export the audit log.", no_args_is_help=True)

_DAYS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_MOST_TOLD = 160  # characters of what changed, on one line; `export` has all of it
WorkspaceOption = Annotated[
    str | None, typer.Option("--workspace", help="Slug, or organization/slug; default: the first workspace.")
]
ActorOption = Annotated[str | None, typer.Option(help="An id, a kind, or a part of a name.")]
ActionOption = Annotated[str | None, typer.Option(help="key.created, or key for all that was done to keys.")]
TargetOption = Annotated[str | None, typer.Option(help="The kind of thing it was done to.")]
TargetIdOption = Annotated[str | None, typer.Option("--target-id", help="Its id or name.")]
SinceOption = Annotated[datetime | None, typer.Option(formats=_DAYS, help="From this time on (UTC).")]
UntilOption = Annotated[datetime | None, typer.Option(formats=_DAYS, help="Before this time (UTC).")]
TextOption = Annotated[str | None, typer.Option(help="A part of anything that the entry says.")]


@app.command()
def verify(
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="Slug, or organization/slug; default: all of them.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="A head that was noted earlier, <seq>:<hash>: it has to be in the chain."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Read the whole log and compute every hash again; the first broken entry is named, with exit code 1."""
    from sluiceway.audit.verification import Head
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    expected = None if head is None else Head.parse(head)
    with command_database(load_settings()) as database:
        wanted = _workspaces(database) if workspace is None else [_workspace(database, workspace)]
        if expected is not None and len(wanted) != 1:
            raise typer.BadParameter("goes with --workspace: a head is one workspace's", param_hint="--head")
        found = [(name, _verified(database, id_, expected)) for id_, name in wanted]
    if as_json:
        typer.echo(json.dumps([_as_json(name, result) for name, result in found], indent=2))
    else:
        for name, result in found:
            typer.echo(_told(name, result))
        if not found:
            typer.echo("No workspace has an audit log yet.")
    raise typer.Exit(0 if all(result.intact for _, result in found) else 1)


@app.command()
def head(workspace: WorkspaceOption = None) -> None:
    """Print the newest entry's number and hash, to be noted elsewhere and given to `verify --head` later."""
    from sluiceway.audit.verification import find_head
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.sessions import command_database

    with command_database(load_settings()) as database:
        id_, _ = _workspace(database, workspace)
        with database.transaction(Role.APP, workspace_id=id_) as connection:
            typer.echo(str(find_head(connection, id_)))


@app.command("list")
def list_(
    workspace: WorkspaceOption = None,
    actor: ActorOption = None,
    action: ActionOption = None,
    target: TargetOption = None,
    target_id: TargetIdOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    text: TextOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest.")] = 50,
) -> None:
    """Search, newest first, a line each; export has all of an entry. That somebody looked is recorded."""
    from sluiceway.audit.actions import Action
    from sluiceway.audit.reading import search
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    wanted = _search(actor, action, target, target_id, since, until, text)
    with command_database(load_settings()) as database:
        id_, _ = _workspace(database, workspace)
        with database.transaction(Role.APP, workspace_id=id_) as connection:
            found = search(connection, id_, wanted, limit=limit)
            note_command(connection, Action.AUDIT_READ, target="audit", detail=wanted.described())
    for entry in found:
        typer.echo(_line(entry))


@app.command()
def export(
    workspace: WorkspaceOption = None,
    format_: Annotated[
        str, typer.Option("--format", help="csv, or ndjson with what the hashes are computed from.")
    ] = "ndjson",
    into: Annotated[Path | None, typer.Option(help="A file; default: print.")] = None,
    actor: ActorOption = None,
    action: ActionOption = None,
    target: TargetOption = None,
    target_id: TargetIdOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    text: TextOption = None,
) -> None:
    """Write all that a search finds, oldest first. That it was taken is recorded."""
    from functools import partial

    from sluiceway.audit.actions import Action
    from sluiceway.audit.reading import FORMATS, exported
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings
    from sluiceway.runtime.auditing import note_command
    from sluiceway.runtime.sessions import command_database

    form = next((known for known in FORMATS if known == format_), None)
    if form is None:
        raise typer.BadParameter(f"should be {' or '.join(FORMATS)}", param_hint="--format")
    wanted = _search(actor, action, target, target_id, since, until, text)
    with command_database(load_settings()) as database:
        id_, _ = _workspace(database, workspace)
        transactions = partial(database.transaction, Role.APP, workspace_id=id_)
        with transactions() as connection:
            detail = {"format": form, **wanted.described()}
            note_command(connection, Action.EXPORT_MADE, target="audit", detail=detail)
        pieces = exported(transactions, id_, wanted, form)
        if into is None:
            for piece in pieces:
                sys.stdout.write(piece.decode())
        else:
            with into.open("wb") as file:
                file.writelines(pieces)


def _workspaces(database: "Database") -> list[tuple[int, str]]:
    """Those that have a log: id and `organization/slug`."""
    import sqlalchemy as sa

    from sluiceway.infra.database import Role

    with database.transaction(Role.APP) as connection:
        rows = connection.execute(sa.text("SELECT * FROM app.audited_workspaces()"))
        return [(row.workspace_id, f"{row.organization}/{row.slug}") for row in rows]


def _workspace(database: "Database", name: str | None) -> tuple[int, str]:
    """The one that is meant. Raises `NotFound`."""
    from sluiceway.kit.errors import NotFound

    known = _workspaces(database)
    found = known[:1] if name is None else [w for w in known if name in (w[1], w[1].partition("/")[2])]
    if len(found) != 1:
        names = ", ".join(w[1] for w in known) or "none yet"
        raise NotFound(
            f"{name or 'The first workspace'} names {len(found) or 'no'} workspace with an audit log; there"
            f" are: {names}."
        )
    return found[0]


def _verified(database: "Database", workspace_id: int, expected: "Head | None") -> "Verification":
    from sluiceway.audit.actions import Action
    from sluiceway.audit.verification import verify as check
    from sluiceway.infra.database import Role
    from sluiceway.runtime.auditing import note_command

    with database.transaction(Role.APP, workspace_id=workspace_id) as connection:
        found = check(connection, workspace_id, expected)
        detail = {"intact": found.intact, "through": str(found.head)}
        note_command(connection, Action.AUDIT_VERIFIED, target="audit", detail=detail)
    return found


def _search(
    actor: str | None,
    action: str | None,
    target: str | None,
    target_id: str | None,
    since: datetime | None,
    until: datetime | None,
    text: str | None,
) -> "Search":
    from sluiceway.audit.reading import Search

    first, last = (None if at is None else at.replace(tzinfo=UTC) for at in (since, until))
    return Search(actor, action, target, target_id, None, first, last, text)


def _told(name: str, found: "Verification") -> str:
    if found.broken is not None:
        return (
            f"{name}: BROKEN at entry {found.broken.seq}. {found.broken.what}"
            f" {found.entries} entries before it are as they were written."
        )
    dropped = f", those up to entry {found.start.seq} were dropped by retention" if found.start.seq else ""
    erased = f", {found.erased} with somebody's name erased" if found.erased else ""
    return f"{name}: {found.entries} entries are as they were written{dropped}{erased}. Head: {found.head}"


def _as_json(name: str, found: "Verification") -> dict[str, object]:
    broken = found.broken
    return {
        "workspace": name,
        "intact": found.intact,
        "entries": found.entries,
        "start": str(found.start),
        "head": str(found.head),
        "erased": found.erased,
        "broken": None if broken is None else {"seq": broken.seq, "what": broken.what},
    }


def _line(entry: "AuditEntry") -> str:
    actor = entry.actor
    who = actor.name or actor.id or actor.kind
    of = " ".join(part for part in (entry.target, entry.target_id) if part)
    more = {
        name: part
        for name, part in (("before", entry.before), ("after", entry.after), ("detail", entry.detail))
        if part
    }
    told = json.dumps(more, ensure_ascii=False) if more else ""
    if len(told) > _MOST_TOLD:
        told = f"{told[:_MOST_TOLD]} …"
    text = (
        f"{entry.seq:>7}  {entry.at:%Y-%m-%d %H:%M:%S}  {entry.action:24}  {who:32}  {actor.address:15}"
        f"  {of}  {told}"
    )
    # What others wrote must not move the terminal's cursor.
    return "".join(c if c.isprintable() else "\ufffd" for c in text).rstrip()
