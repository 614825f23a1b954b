"""`sluiceway spool`: the spools this machine sees, who works on them, taking over one left behind."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluiceway.kit.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from sluiceway.infra.database import Database
    from sluiceway.infra.settings import Settings

app = typer.Typer(help="Spools: what waits on this machine's disks, and who loads it.", no_args_is_help=True)

_TELL_EVERY_S = 2.0
_LOOK_EVERY_S = 0.2


class NoSpool(NotFound):
    code = "spool_not_found"
    title = "There is no spool"


class SpoolInUse(Conflict):
    code = "spool_in_use"
    title = "A process is at this spool"


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a spool.")] = False,
) -> None:
    """Show every spool folder this machine sees: who writes, who loads, what waits."""
    from sluiceway.infra.settings import load_settings
    from sluiceway.ingestion.spool.belonging import spool_folders
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    with command_database(settings) as database:
        found = [describe(database, settings, folder) for folder in spool_folders(settings)]
    if as_json:
        for spool in found:
            typer.echo(json.dumps(spool, ensure_ascii=False))
        return
    if not found:
        typer.echo(f"There is no spool under {settings.spool_dir.parent} yet.")
    for spool in found:
        typer.echo(_line(spool))
        for holder in spool["holders"]:
            where = f"{holder['host']}, process {holder['pid']}" + ("" if holder["alive"] else ", dead")
            typer.echo(f"  loaded by {where}: {holder['pipelines']} pipelines")


@app.command()
def drain(
    folder: Annotated[Path, typer.Argument(help="The folder of a spool that nobody writes to any more.")],
) -> None:
    """Load everything a dead node left in its spool, under that node's name, and mark it drained.

    For a folder that was copied or mounted here; those beside this node's own the loader finds by itself.
    """
    from sluiceway.audit.actions import Action
    from sluiceway.infra.settings import load_settings
    from sluiceway.ingestion.spool.belonging import has_writer, identify, is_drained
    from sluiceway.runtime.auditing import note_installation
    from sluiceway.runtime.sessions import command_database

    settings = load_settings()
    folder = _spool_folder(folder)
    if is_drained(folder):
        typer.echo(f"{folder} is drained already: it may be removed.")
        return
    if has_writer(folder):
        raise SpoolInUse(f"A process writes to {folder}: a loader of that node drains it by itself.")
    with command_database(settings) as database:
        _claim(database, folder)
        _drain(settings, database, folder)
        node = identify(folder, folder.name).node
        note_installation(database, Action.SPOOL_DRAINED, target="spool", target_id=node)
    typer.echo(f"{folder} is drained: all of it is loaded and in the lake. It may be removed.")


@app.command()
def rename(
    folder: Annotated[Path, typer.Argument(help="The folder of a spool whose node's name is another's.")],
    node: Annotated[str, typer.Argument(help="A name that no node ever had.")],
) -> None:
    """Give a spool a node name of its own, when the database knows another folder by the one it has.

    That is so for an old disk that comes back after its node went on without it, for a new disk under an old
    node's name, and for two nodes of one name. Stop its loader before; what lies in it is loaded under the
    new name, all of it.
    """
    from sluiceway.audit.actions import Action
    from sluiceway.infra.database import Role
    from sluiceway.infra.settings import load_settings, plain_name
    from sluiceway.ingestion.spool import belonging
    from sluiceway.loading.claims import release
    from sluiceway.runtime.auditing import note_installation
    from sluiceway.runtime.sessions import command_database

    try:
        plain_name(node)
    except ValueError as error:
        raise InvalidInput(f"The node's name should be {error}.") from None
    folder = _spool_folder(folder)
    if belonging.has_loader(folder):
        raise SpoolInUse(f"A loader is at {folder}: stop it first.")
    with command_database(load_settings()) as database, database.connect(Role.WRITER) as connection:
        release(connection, belonging.known_as(folder), folder, node)
        belonging.rename(folder, node)
        note_installation(database, Action.SPOOL_RENAMED, target="spool", target_id=node)
    typer.echo(f"{folder} is the spool of node {node} from now on: start its loader, or drain it.")


def _spool_folder(folder: Path) -> Path:
    from sluiceway.ingestion.spool.segments import numbers

    folder = folder.expanduser().absolute()
    if not folder.is_dir() or not numbers(folder):
        raise NoSpool(f"{folder} holds no spool: give the folder in which the .seg files are.")
    return folder


def _claim(database: "Database", folder: Path) -> None:
    """Told here and now, not in a log."""
    from sluiceway.infra.database import Role
    from sluiceway.ingestion.spool.belonging import identify
    from sluiceway.loading.claims import claim

    with database.connect(Role.WRITER) as connection:
        claim(connection, identify(folder, folder.name), folder)


def _drain(settings: "Settings", database: "Database", folder: Path) -> None:
    import threading

    from sluiceway.loading.leases import Membership
    from sluiceway.runtime.container import make_gate
    from sluiceway.runtime.spools import SpoolWork

    membership = Membership(database)
    work = SpoolWork(settings, database, make_gate(database), membership, folder)
    membership.beat()
    stop = threading.Event()
    beating = threading.Thread(target=membership.run, args=(stop,), daemon=True)
    beating.start()
    work.start()
    work.run_aside()
    typer.echo(f"Loading {folder} for node {work.node} …")
    told_at = time.monotonic()
    try:
        while not work.finish():
            if not work.running:
                raise NoSpool(f"Loading {folder} ended; its log lines say why.")
            if time.monotonic() - told_at > _TELL_EVERY_S:
                told_at = time.monotonic()
                typer.echo(f"  {_size(waiting_bytes(folder))} wait")
            time.sleep(_LOOK_EVERY_S)
    finally:
        work.end()
        stop.set()
        beating.join()


def describe(database: "Database", settings: "Settings", folder: Path) -> dict[str, Any]:
    """One spool as `spool list` shows it. Ages in seconds, sizes in bytes."""
    import sqlalchemy as sa

    from sluiceway.infra.database import Role
    from sluiceway.ingestion.spool.belonging import has_keeper, has_writer, is_drained, node_of
    from sluiceway.ingestion.spool.progress import load_progress
    from sluiceway.ingestion.spool.segments import used_bytes

    node = node_of(folder)
    progress = load_progress(folder)
    with database.transaction(Role.APP) as connection:
        rows = connection.execute(
            sa.text(
                "SELECT l.host, l.pid, l.expires_at > clock_timestamp() AS alive, count(*) AS pipelines"
                " FROM app.spool_leases s JOIN app.loaders l ON l.id = s.loader_id"
                " WHERE s.node = :node GROUP BY l.id ORDER BY l.host, l.pid"
            ),
            {"node": node},
        )
        holders = [dict(row) for row in rows.mappings()]
    oldest_us = None if progress is None else progress.oldest_received_us
    return {
        "node": node,
        "folder": str(folder),
        "own": folder == settings.spool_dir,
        "writer": has_writer(folder),
        "keeper": has_keeper(folder),
        "drained": is_drained(folder),
        "size_bytes": used_bytes(folder),
        "waiting_bytes": None if progress is None else progress.waiting_bytes,
        "oldest_s": None if oldest_us is None else round(time.time() - oldest_us / 1e6, 1),
        "told_s": None if progress is None else round(time.time() - progress.at, 1),
        "holders": holders,
    }


def waiting_bytes(folder: Path) -> int:
    """What its loader said last, or all of it."""
    from sluiceway.ingestion.spool.progress import load_progress
    from sluiceway.ingestion.spool.segments import used_bytes

    progress = load_progress(folder)
    return used_bytes(folder) if progress is None else progress.waiting_bytes


def _line(spool: dict[str, Any]) -> str:
    state = "written to" if spool["writer"] else "drained" if spool["drained"] else "nobody writes to it"
    parts = [state, f"{_size(spool['size_bytes'])} on disk"]
    if spool["waiting_bytes"] is not None:
        oldest = "" if spool["oldest_s"] is None else f", the oldest for {spool['oldest_s']:.0f} s"
        parts.append(f"{_size(spool['waiting_bytes'])} wait{oldest} (told {spool['told_s']:.0f} s ago)")
    if not spool["keeper"] and not spool["drained"]:
        parts.append("no loader works on it")
    return f"{spool['node']}  {spool['folder']}{'  (own)' if spool['own'] else ''}\n  " + "; ".join(parts)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.1f} MB"
