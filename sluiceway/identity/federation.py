"""Letting people in whom a provider knows: who they are here, and what its groups make of them.

A person is found by the provider's subject; the first time by an address that the provider has verified. A
provider of one organization never speaks for somebody who also belongs to another: its owner could take them
over. Not here: asking the provider (`oidc`), the session (the API).
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from sluiceway.identity import service
from sluiceway.identity.contracts import Membership, User
from sluiceway.identity.errors import ProviderRefused
from sluiceway.identity.oidc import Claims
from sluiceway.identity.providers import GroupRole, Provider
from sluiceway.infra.database import set_identity

_BUILT_IN = ("owner", "admin", "editor", "analyst", "viewer")
_SEVERAL_FACTORS = "mfa"
"""RFC 8176: several factors were used."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a sign-in changed about a membership; `before` None: it began, `after` None: it is locked."""

    workspace_id: int
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in, which workspaces of the provider's organization are theirs, and what changed with it."""

    user: User
    rooms: tuple[Membership, ...]
    made: bool
    changes: tuple[Change, ...]
    second_factor: bool


def admit(conn: sa.Connection, provider: Provider, claims: Claims, *, now: datetime) -> Admitted:
    """Find or make the person, and give them what their groups say. Needs role APP.

    Ends acting for the person. Raises `ProviderRefused`, which says to the person why. Who lost all groups
    has no `rooms`: the caller keeps what that changed, and then calls `check_rooms`.
    """
    user, made = _known(conn, provider, claims), False
    if user is None:
        user, made = _first_time(conn, provider, claims)
        _link(conn, provider, claims, user.id, now)
    service.act_for(conn, user.id)
    changes = _apply_groups(conn, provider, claims, user.id, now)
    set_identity(conn, workspace_id=None, user_id=str(user.id))
    rooms = tuple(r for r in service.memberships(conn, user.id) if r.workspace_id in _rooms(conn, provider))
    if not changes:
        check_rooms(rooms)
    second = provider.spec.covers_second_factor or _SEVERAL_FACTORS in claims.methods
    return Admitted(user, rooms, made, changes, second)


def check_rooms(rooms: tuple[Membership, ...]) -> None:
    """Raise `ProviderRefused` if there is no workspace that they may enter."""
    if not rooms:
        raise ProviderRefused("You are known, but no workspace here is open to you. Ask whoever runs it.")


def speaks_for(conn: sa.Connection, provider: Provider, claims: Claims, user_id: uuid.UUID) -> bool:
    """Whether this is how that person confirms themselves: linked, and of no other organization."""
    found = _known(conn, provider, claims)
    return found is not None and found.id == user_id and _only_here(conn, provider, user_id)


def _known(conn: sa.Connection, provider: Provider, claims: Claims) -> User | None:
    row = conn.execute(
        sa.text("SELECT user_id, disabled FROM app.find_federated_identity(:provider, :subject)"),
        {"provider": provider.id, "subject": claims.subject},
    ).first()
    if row is None:
        return None
    if row.disabled:
        raise ProviderRefused("Your account here is locked. Ask whoever runs it.")
    set_identity(conn, workspace_id=None, user_id=str(row.user_id))
    person = conn.execute(
        sa.text("SELECT id, email, name, created_at, disabled_at FROM app.users WHERE id = :id"),
        {"id": row.user_id},
    ).one()
    return User(person.id, person.email, person.name, person.created_at, person.disabled_at)


def _first_time(conn: sa.Connection, provider: Provider, claims: Claims) -> tuple[User, bool]:
    email = _trusted_address(provider, claims)
    user = service.find_user(conn, email)
    if user is None:
        if not _placed(provider, claims):
            raise ProviderRefused("None of your groups opens a workspace here. Ask whoever runs it.")
        return service.add_person(conn, email, claims.name or email.split("@", 1)[0], None), True
    if user.disabled_at is not None:
        raise ProviderRefused("Your account here is locked. Ask whoever runs it.")
    if not _only_here(conn, provider, user.id):
        raise ProviderRefused(
            "There is an account with your address that also belongs to another organization."
            " Sign in to it with its password or a passkey."
        )
    return user, False


def _trusted_address(provider: Provider, claims: Claims) -> str:
    email = (claims.email or "").strip()
    domain = email.rpartition("@")[2].lower()
    if not service.EMAIL.fullmatch(email):
        raise ProviderRefused("The provider did not tell your e-mail address (the scope `email`).")
    if provider.spec.domains and domain not in provider.spec.domains:
        raise ProviderRefused(f"This provider does not speak for addresses of {domain}.")
    # Some say nothing of it: then the owner has to have named the domain.
    if claims.email_verified is False or (claims.email_verified is None and not provider.spec.domains):
        raise ProviderRefused("The provider does not say that your e-mail address is verified.")
    return email


def _link(conn: sa.Connection, provider: Provider, claims: Claims, user_id: uuid.UUID, now: datetime) -> None:
    set_identity(conn, workspace_id=None, user_id=str(user_id))
    conn.execute(
        sa.text(
            "INSERT INTO app.federated_identities (provider_id, subject, user_id, created_at)"
            " VALUES (:provider, :subject, :user, :now)"
        ),
        {"provider": provider.id, "subject": claims.subject, "user": user_id, "now": now},
    )


def _apply_groups(
    conn: sa.Connection, provider: Provider, claims: Claims, user_id: uuid.UUID, now: datetime
) -> tuple[Change, ...]:
    """Make memberships what the groups say. Who lost the group that let them in is locked out there.

    Whom somebody here locked out stays so, whatever their groups: only what a lost group did is undone.
    """
    placed, by_group = _placed(provider, claims), _by_group(provider, claims)
    known = conn.execute(
        sa.text(
            "SELECT admitted_to, locked_out_of FROM app.federated_identities"
            " WHERE provider_id = :provider AND subject = :who"
        ),
        {"provider": provider.id, "who": claims.subject},
    ).one()
    before, locked = known.admitted_to, set(known.locked_out_of)
    changes = []
    for workspace_id in sorted({*placed, *before}):
        set_identity(conn, workspace_id=workspace_id, user_id=str(user_id))
        # Where no group decides, what somebody here made of the person stays.
        if (
            workspace_id not in by_group
            and workspace_id not in before
            and _is_member(conn, workspace_id, user_id)
        ):
            continue
        role, ours = placed.get(workspace_id), workspace_id in locked
        change = _place(conn, workspace_id, user_id, role, now, locked_by_provider=ours)
        if change is not None:
            changes.append(change)
            (locked.add if change.after is None else locked.discard)(workspace_id)
    set_identity(conn, workspace_id=None, user_id=str(user_id))
    conn.execute(
        sa.text(
            "UPDATE app.federated_identities SET admitted_to = :rooms, locked_out_of = :locked,"
            " last_used_at = :now WHERE provider_id = :provider AND subject = :who"
        ),
        {
            "rooms": sorted(by_group),
            "locked": sorted(locked),
            "now": now,
            "provider": provider.id,
            "who": claims.subject,
        },
    )
    return tuple(changes)


def _place(
    conn: sa.Connection,
    workspace_id: int,
    user_id: uuid.UUID,
    role: str | None,
    now: datetime,
    *,
    locked_by_provider: bool,
) -> Change | None:
    row = conn.execute(
        sa.text(
            "SELECT role, disabled_at FROM app.memberships"
            " WHERE workspace_id = :workspace AND user_id = :user FOR UPDATE"
        ),
        {"workspace": workspace_id, "user": user_id},
    ).first()
    if row is not None and row.disabled_at is not None and not locked_by_provider:
        return None
    held = row.role if row is not None and row.disabled_at is None else None
    if held == role or (held == "owner" and _is_last_owner(conn, workspace_id, user_id)):
        return None
    if role is None:
        conn.execute(
            sa.text(
                "UPDATE app.memberships SET disabled_at = :now"
                " WHERE workspace_id = :workspace AND user_id = :user"
            ),
            {"now": now, "workspace": workspace_id, "user": user_id},
        )
        return Change(workspace_id, held, None)
    service.add_member(conn, workspace_id, user_id, role)
    conn.execute(
        sa.text(
            "UPDATE app.memberships SET disabled_at = NULL"
            " WHERE workspace_id = :workspace AND user_id = :user"
        ),
        {"workspace": workspace_id, "user": user_id},
    )
    return Change(workspace_id, held, role)


def _is_last_owner(conn: sa.Connection, workspace_id: int, user_id: uuid.UUID) -> bool:
    others: int = conn.execute(
        sa.text(
            "SELECT count(*) FROM app.memberships WHERE workspace_id = :workspace AND role = 'owner'"
            " AND user_id <> :user AND disabled_at IS NULL"
        ),
        {"workspace": workspace_id, "user": user_id},
    ).scalar_one()
    return others == 0


def _placed(provider: Provider, claims: Claims) -> dict[int, str]:
    """Role by workspace: the highest that a group gives there (custom roles below the built-in ones), or the
    default where no group gives any."""
    found = _by_group(provider, claims)
    spec = provider.spec
    if not found and spec.default_role is not None and spec.default_workspace_id is not None:
        found[spec.default_workspace_id] = spec.default_role
    return found


def _by_group(provider: Provider, claims: Claims) -> dict[int, str]:
    held = set(claims.groups)
    found: dict[int, str] = {}
    for rule in _by_rank(provider.spec.group_roles):
        if rule.group in held:
            found.setdefault(rule.workspace_id, rule.role)
    return found


def _is_member(conn: sa.Connection, workspace_id: int, user_id: uuid.UUID) -> bool:
    found = conn.execute(
        sa.text("SELECT FROM app.memberships WHERE workspace_id = :workspace AND user_id = :user"),
        {"workspace": workspace_id, "user": user_id},
    )
    return found.first() is not None


def _by_rank(rules: Iterable[GroupRole]) -> list[GroupRole]:
    return sorted(rules, key=lambda r: _BUILT_IN.index(r.role) if r.role in _BUILT_IN else len(_BUILT_IN))


def _only_here(conn: sa.Connection, provider: Provider, user_id: uuid.UUID) -> bool:
    found: Iterable[int] = conn.execute(
        sa.text("SELECT app.organizations_of(:user)"), {"user": user_id}
    ).scalars()
    return set(found) <= {provider.organization_id}


def _rooms(conn: sa.Connection, provider: Provider) -> frozenset[int]:
    rows = conn.execute(
        sa.text("SELECT id FROM app.workspaces_of(:organization)"),
        {"organization": provider.organization_id},
    )
    return frozenset(rows.scalars())
