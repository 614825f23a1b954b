"""The organization and its workspaces: naming and making them, who owns the organization, going between them.

Functions take an open connection (role APP) that acts for one of the organization's workspaces, and do not
commit. Not here: who is a member of a workspace (`members`).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.errors import InvalidWorkspace, LastOwner, NotSignedIn, WorkspaceExists
from sluiceway.identity.giving import slug_of
from sluiceway.identity.sessions import hash_token
from sluiceway.kit import ids
from sluiceway.kit.errors import FieldError, NotFound

NAME_LENGTH = 80
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Workspace:
    id: int
    slug: str
    name: str
    created_at: datetime
    members: int


@dataclass(frozen=True, slots=True)
class OrganizationOwner:
    user_id: UUID
    email: str
    name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Organization:
    id: int
    slug: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Place:
    """An organization and one of its workspaces; None where it has none."""

    organization_id: int
    organization_slug: str
    organization_name: str
    workspace_id: int | None
    workspace_slug: str | None
    workspace_name: str | None
    members: int


def all_places(conn: sa.Connection) -> list[Place]:
    """Every workspace of the installation: for its operator alone, no workspace need be set."""
    rows = conn.execute(sa.text("SELECT * FROM app.all_workspaces()"))
    return [
        Place(r.organization_id, r.organization_slug, r.organization_name, r.id, r.slug, r.name, r.members)
        for r in rows
    ]


def organization(conn: sa.Connection) -> Organization:
    """The one of the workspace that is acted for. Raises `NotFound`."""
    row = conn.execute(sa.text("SELECT id, slug, name, created_at FROM app.organizations")).first()
    if row is None:
        raise NotFound("There is no such organization.")
    return Organization(row.id, row.slug, row.name, row.created_at)


def rename_organization(
    conn: sa.Connection, *, name: str | None = None, slug: str | None = None
) -> tuple[Organization, Organization]:
    """Returns it as it was and as it is. Raises `InvalidWorkspace` or `WorkspaceExists`."""
    before = organization(conn)
    wanted = _checked(before.name if name is None else name, before.slug if slug is None else slug)
    _rename(conn, "app.organizations", before.id, wanted)
    return before, organization(conn)


def list_workspaces(conn: sa.Connection, organization_id: int) -> list[Workspace]:
    """All of the organization, the oldest first."""
    rows = conn.execute(sa.text("SELECT * FROM app.workspaces_of(:id)"), {"id": organization_id})
    return [Workspace(row.id, row.slug, row.name, row.created_at, row.members) for row in rows]


def create_workspace(
    conn: sa.Connection, organization_id: int, name: str, founder: UUID, *, slug: str | None = None
) -> Workspace:
    """Make a workspace that `founder`, an owner of the organization, owns.

    Raises `InvalidWorkspace` or `WorkspaceExists`.
    """
    label, short = _checked(name, slug or slug_of(name, "workspace"))
    made: int | None = conn.execute(
        sa.text("SELECT app.create_workspace(:organization, :slug, :name, :founder)"),
        {"organization": organization_id, "slug": short, "name": label, "founder": founder},
    ).scalar_one()
    if made is None:
        raise WorkspaceExists(f"There is a workspace {short!r} already.")
    return next(w for w in list_workspaces(conn, organization_id) if w.id == made)


def rename_workspace(
    conn: sa.Connection, workspace_id: int, *, name: str | None = None, slug: str | None = None
) -> tuple[Workspace, Workspace]:
    """Returns it as it was and as it is. Senders' addresses that name the slug have to follow it.

    Raises `InvalidWorkspace` or `WorkspaceExists`.
    """
    before = get_workspace(conn, workspace_id)
    wanted = _checked(before.name if name is None else name, before.slug if slug is None else slug)
    _rename(conn, "app.workspaces", workspace_id, wanted)
    return before, get_workspace(conn, workspace_id)


def get_workspace(conn: sa.Connection, workspace_id: int) -> Workspace:
    """The one that is acted for. Raises `NotFound`."""
    row = conn.execute(
        sa.text(
            "SELECT w.id, w.slug, w.name, w.created_at, (SELECT count(*) FROM app.memberships m"
            " WHERE m.workspace_id = w.id AND m.disabled_at IS NULL) AS members"
            " FROM app.workspaces w WHERE w.id = :id"
        ),
        {"id": workspace_id},
    ).first()
    if row is None:
        raise NotFound("There is no such workspace.")
    return Workspace(row.id, row.slug, row.name, row.created_at, row.members)


def create_organization(
    conn: sa.Connection, name: str, founder: UUID, *, slug: str | None = None
) -> tuple[int, str]:
    """Make an organization that `founder` owns, without a workspace yet; returns its id and slug.

    Raises `InvalidWorkspace` or `WorkspaceExists`.
    """
    label, short = _checked(name, slug or slug_of(name, "organization"))
    made: int | None = conn.execute(
        sa.text("SELECT app.create_organization(:slug, :name, :founder)"),
        {"slug": short, "name": label, "founder": founder},
    ).scalar_one()
    if made is None:
        raise WorkspaceExists(f"There is an organization {short!r} already.")
    return made, short


def owners(conn: sa.Connection, organization_id: int) -> list[OrganizationOwner]:
    """Who owns the organization, the longest-standing first."""
    rows = conn.execute(sa.text("SELECT * FROM app.owners_of(:id)"), {"id": organization_id})
    return [OrganizationOwner(row.user_id, row.email, row.name, row.since) for row in rows]


def add_owner(conn: sa.Connection, organization_id: int, user_id: UUID) -> None:
    """Let a member of the workspace that is acted for own the organization, too."""
    conn.execute(
        sa.text(
            "INSERT INTO app.organization_owners (organization_id, user_id)"
            " VALUES (:organization, :user) ON CONFLICT DO NOTHING"
        ),
        {"organization": organization_id, "user": user_id},
    )


def remove_owner(conn: sa.Connection, organization_id: int, user_id: UUID) -> None:
    """Raises `NotFound`, or `LastOwner` if nobody else owns the organization."""
    conn.execute(
        sa.text(
            "SELECT 1 FROM app.organization_owners WHERE organization_id = :id ORDER BY user_id FOR UPDATE"
        ),
        {"id": organization_id},
    )
    known = {owner.user_id for owner in owners(conn, organization_id)}
    if user_id not in known:
        raise NotFound("This person does not own the organization.")
    if known == {user_id}:
        raise LastOwner("Nobody else owns the organization: make somebody else its owner first.")
    conn.execute(
        sa.text("DELETE FROM app.organization_owners WHERE organization_id = :id AND user_id = :user"),
        {"id": organization_id, "user": user_id},
    )


def move_session(conn: sa.Connection, token: str, workspace_id: int) -> str:
    """Go on in another of the person's workspaces, under a new token, which is returned.

    The old one is worth nothing from then on: what still runs with it does not act in the wrong workspace.
    Raises `NotFound` for a workspace that the session's person may not enter, `NotSignedIn` without a token.
    """
    if not token:
        raise NotSignedIn("Nobody is signed in.")
    fresh = ids.token(32)
    moved: bool = conn.execute(
        sa.text("SELECT app.move_session(:old, :fresh, :workspace)"),
        {"old": hash_token(token), "fresh": hash_token(fresh), "workspace": workspace_id},
    ).scalar_one()
    if not moved:
        raise NotFound("There is no such workspace.")
    return fresh


def _rename(conn: sa.Connection, table: str, row_id: int, wanted: tuple[str, str]) -> None:
    try:
        with conn.begin_nested():
            conn.execute(
                sa.text(f"UPDATE {table} SET name = :name, slug = :slug WHERE id = :id"),  # noqa: S608  # our own
                {"name": wanted[0], "slug": wanted[1], "id": row_id},
            )
    except sa.exc.IntegrityError:
        raise WorkspaceExists(f"{wanted[1]!r} is taken already.") from None


def _checked(name: str, slug: str) -> tuple[str, str]:
    """Name and slug as they are kept. Raises `InvalidWorkspace`."""
    problems = []
    label = " ".join(name.split())
    if not 1 <= len(label) <= NAME_LENGTH:
        problems.append(FieldError("name", f"should have 1 to {NAME_LENGTH} characters"))
    if not _SLUG.fullmatch(slug):
        problems.append(FieldError("slug", "should be small letters, digits and -, beginning with a letter"))
    if problems:
        raise InvalidWorkspace("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)
    return label, slug
