"""A node's name is one spool folder's for good: the database keeps the folder's id beside its positions.

Cursors and bronze know a spool by its node's name and numbers of segments. What lies in another folder under
that name would be taken for loaded wherever its numbers are smaller, and its bronze would be written over the
other's. So nobody begins with a folder before its id has been compared here. Not here: the id itself
(`ingestion.spool.belonging`), and who loads which pipeline of a spool (`leases`).
"""

from pathlib import Path
from typing import Any

import psycopg

from sluiceway.ingestion.contracts import START
from sluiceway.ingestion.spool.belonging import Identity
from sluiceway.kit.errors import Conflict, NotFound

Connection = psycopg.Connection[Any]

_CLAIM = """
INSERT INTO app.spool_positions AS known (node, segment, "offset", spool_id) VALUES (%s, %s, %s, %s)
ON CONFLICT (node) DO UPDATE SET spool_id = EXCLUDED.spool_id WHERE known.spool_id IS NULL
"""
_IS_USED = """
SELECT EXISTS (SELECT FROM app.spool_positions WHERE node = %(node)s)
  OR EXISTS (SELECT FROM app.spool_cursors WHERE node = %(node)s)
  OR EXISTS (SELECT FROM app.loaders WHERE spools ? %(node)s)
"""


class SpoolNameTaken(Conflict):
    code = "spool_name_taken"
    title = "Another spool goes by this node's name"


class SpoolNameKept(Conflict):
    code = "spool_name_kept"
    title = "The spool keeps its node's name"


class NodeNameInUse(Conflict):
    code = "node_name_in_use"
    title = "A node of this name is known already"


class SpoolUnnamed(NotFound):
    code = "spool_unnamed"
    title = "The folder has no name yet"


def claim(connection: Connection, identity: Identity, folder: Path | None = None) -> None:
    """The node's name is this folder's from now on, unless it is another's. In a transaction of its own.

    Raises `SpoolNameTaken`, which says what to do; then nothing may be loaded from the folder. A name that
    was used before ids were kept goes to the first that asks.
    """
    with connection.transaction():
        known = _known(connection, identity.node)
        if known is None:
            _take(connection, identity.node, identity.id)
            known = _known(connection, identity.node)
    if known == identity.id:
        return
    place = folder or "This folder"
    raise SpoolNameTaken(
        f"{place} calls itself node {identity.node}, but the database knows another spool folder by that name"
        f" (this one's id is {identity.id}, that one's {known}): what lies here would be taken for loaded."
        " Nothing is loaded from it, and nothing is lost. Is it a new disk for an old node, or an old disk"
        f" that came back: stop its loader, give the folder a name of its own with"
        f" `sluiceway spool rename {folder or 'FOLDER'} NODE`, and start it again."
    )


def release(connection: Connection, identity: Identity | None, folder: Path, node: str) -> None:
    """`folder` may be called `node` instead of what it says: only where its own name is another folder's.

    In the caller's transaction. Raises `SpoolUnnamed`, `SpoolNameKept`, `NodeNameInUse`.
    """
    if identity is None:
        raise SpoolUnnamed(f"No loader has been at {folder} yet: it is named when the first one begins.")
    known = _known(connection, identity.node)
    if known is None or known == identity.id:
        raise SpoolNameKept(
            f"{folder} is node {identity.node}'s, and nobody else goes by that name: what is loaded from it,"
            " and what is in the lake, is known by it, so it stays."
        )
    row = connection.execute(_IS_USED, {"node": node}).fetchone()
    if row is None or row[0]:
        raise NodeNameInUse(f"The database knows a node {node} already: choose a name that was never used.")
    _take(connection, node, identity.id)


def _take(connection: Connection, node: str, spool_id: str) -> None:
    connection.execute(_CLAIM, (node, START.segment, START.offset, spool_id))


def _known(connection: Connection, node: str) -> str | None:
    row = connection.execute("SELECT spool_id FROM app.spool_positions WHERE node = %s", (node,)).fetchone()
    return None if row is None else row[0]
