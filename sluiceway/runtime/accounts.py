"""The first person and the platform's own keys: made once, kept beside the data with mode 0600.

No secret has a default: each installation makes its own.
"""

import os
import secrets
from pathlib import Path

import orjson
import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.catalog.service import Catalog
from sluiceway.identity.keys import authenticate, create_key, parse_key
from sluiceway.identity.service import create_user, find_user
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.kit.errors import Unauthenticated
from sluiceway.runtime.auditing import PLATFORM

DEMO_EMAIL = "demo@sluiceway.local"
ADMIN_EMAIL = "admin@sluiceway.local"
SIGN_IN_FILE = "sign-in.json"
_WORDS = "abcdefghjkmnpqrstuvwxyz23456789"


def ensure_first_user(database: Database, home: Path, *, demo: bool) -> tuple[str, str] | None:
    """Make the demo's (or the first) owner if there is none; returns address and password if known here.

    The password is made once per installation and kept in `sign-in.json` until someone removes it.
    """
    email = DEMO_EMAIL if demo else ADMIN_EMAIL
    path = home / SIGN_IN_FILE
    known: dict[str, str] = orjson.loads(path.read_bytes()) if path.exists() else {}
    with database.transaction(Role.APP, workspace_id=1) as connection:
        if find_user(connection, email) is not None:
            return (email, known[email]) if email in known else None
        if not demo and connection.execute(sa.text("SELECT 1 FROM app.users LIMIT 1")).first():
            return next(iter(known.items()), None)
        password = "-".join("".join(secrets.choice(_WORDS) for _ in range(5)) for _ in range(3))
        made = create_user(connection, email, "Demo" if demo else "Administrator", password, "owner")
        after = {"email": email, "role": "owner"}
        record(connection, Entry(Action.PERSON_CREATED, PLATFORM, "user", str(made.id), after=after))
        write_private(path, orjson.dumps(known | {email: password}))
    return email, password


def ensure_key(database: Database, path: Path, name: str, pipelines: list[str]) -> str:
    """An ingest key of the first workspace, kept in `path`; made anew if it no longer works.

    Raises `InvalidKeyRequest` if none of the pipelines exists.
    """
    with database.transaction(Role.APP, workspace_id=1) as connection:
        if path.exists():
            text = path.read_text().strip()
            try:
                authenticate(connection, text, now=SystemClock().now())
            except Unauthenticated:
                pass
            else:
                return text
        ids = [p.id for p in Catalog().list(connection, 1) if p.slug in pipelines]
        text = create_key(connection, 1, name, ["ingest"], pipeline_ids=ids)
        after = {"name": name, "scopes": ["ingest"], "pipelines": pipelines}
        record(connection, Entry(Action.KEY_CREATED, PLATFORM, "key", parse_key(text)[0], after=after))
    write_private(path, text.encode())
    return text


def write_private(path: Path, content: bytes) -> None:
    """Replace a file with mode 0600, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.replace(path)
