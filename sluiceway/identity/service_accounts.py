"""Service accounts: members that are programs. They have roles and attributes as people do, and own keys.

Functions take an open connection (role APP) that acts for the workspace, and do not commit. `giver`: see
`giving`. Not here: keys themselves (`keys`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidServiceAccount, ServiceAccountExists
from sluiceway.identity.giving import (
    Attributes,
    attribute_problems,
    check_gives_attributes,
    check_gives_roles,
    known_roles,
    tidied,
)
from sluiceway.identity.keys import NAME_LENGTH, tell_changed
from sluiceway.identity.permissions import MemberRole
from sluiceway.kit.checks import length_problems, name_problems, refuse
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.kit.ids import uuid7

DESCRIPTION_LENGTH = 1000
MOST_ROLES = 20
_COLUMNS = "id, name, description, roles, attributes, created_by, created_at, updated_at, disabled_at"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """`roles`: slugs; `attributes`: for row rules; `disabled_at`: since when its keys are refused."""

    id: UUID
    name: str
    description: str
    roles: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None


def create_account(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    roles: Iterable[str],
    *,
    giver: Caller | None,
    description: str = "",
    attributes: Attributes | None = None,
) -> ServiceAccount:
    """Raises `InvalidServiceAccount` (naming the field), `ServiceAccountExists` or `NotPermitted`."""
    wanted, given = sorted(set(roles)), tidied(attributes or {})
    values = _checked(conn, workspace_id, name, description, wanted, given)
    check_gives_roles(conn, workspace_id, giver, wanted)
    check_gives_attributes(giver, {}, given)
    made = conn.execute(
        sa.text(
            "INSERT INTO app.service_accounts"
            " (id, workspace_id, name, description, roles, attributes, created_by)"
            " VALUES (:id, :workspace, :name, :description, :roles, CAST(:attributes AS jsonb), :by)"
            " ON CONFLICT (workspace_id, lower(name)) DO NOTHING RETURNING id"
        ),
        {
            "id": uuid7(),
            "workspace": workspace_id,
            "by": None if giver is None else giver.user_id,
            **values,
        },
    ).first()
    if made is None:
        raise _exists(name)
    return get_account(conn, workspace_id, made.id)


def list_accounts(conn: sa.Connection, workspace_id: int) -> list[ServiceAccount]:
    """By name."""
    rows = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.service_accounts"  # noqa: S608  # our own list
            " WHERE workspace_id = :workspace ORDER BY lower(name)"
        ),
        {"workspace": workspace_id},
    )
    return [_account(row) for row in rows]


def get_account(conn: sa.Connection, workspace_id: int, account_id: UUID) -> ServiceAccount:
    """Raises `NotFound`."""
    row = conn.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM app.service_accounts"  # noqa: S608  # our own list
            " WHERE workspace_id = :workspace AND id = :id"
        ),
        {"workspace": workspace_id, "id": account_id},
    ).first()
    if row is None:
        raise NotFound("There is no such service account in this workspace.")
    return _account(row)


def find_account(conn: sa.Connection, workspace_id: int, name: str) -> ServiceAccount:
    """The account of this name, in any case of letters. Raises `NotFound`."""
    for account in list_accounts(conn, workspace_id):
        if account.name.lower() == name.strip().lower():
            return account
    raise NotFound(f"There is no service account called {name!r} in this workspace.")


def change_account(
    conn: sa.Connection,
    workspace_id: int,
    account_id: UUID,
    *,
    giver: Caller | None,
    now: datetime,
    name: str | None = None,
    description: str | None = None,
    roles: Iterable[str] | None = None,
    attributes: Attributes | None = None,
    disabled: bool | None = None,
) -> tuple[ServiceAccount, ServiceAccount]:
    """Change what is given; its keys follow at once. `disabled`: they are refused until it is False again.

    Returns it as it was and as it is. Raises `NotFound`, `InvalidServiceAccount`, `ServiceAccountExists`, or
    `NotPermitted` also for an account that holds more than the giver.
    """
    before = get_account(conn, workspace_id, account_id)
    wanted = sorted(set(before.roles if roles is None else roles))
    given = tidied(before.attributes if attributes is None else attributes)
    values = _checked(
        conn,
        workspace_id,
        before.name if name is None else name,
        before.description if description is None else description,
        wanted,
        given,
    )
    check_gives_roles(conn, workspace_id, giver, {*before.roles, *wanted})
    check_gives_attributes(giver, before.attributes, given)
    disabled_at = before.disabled_at
    if disabled is not None:
        disabled_at = (before.disabled_at or now) if disabled else None
    try:
        with conn.begin_nested():
            conn.execute(
                sa.text(
                    "UPDATE app.service_accounts SET name = :name, description = :description,"
                    " roles = :roles, attributes = CAST(:attributes AS jsonb), disabled_at = :disabled,"
                    " updated_at = :now WHERE workspace_id = :workspace AND id = :id"
                ),
                {
                    "id": account_id,
                    "workspace": workspace_id,
                    "disabled": disabled_at,
                    "now": now,
                    **values,
                },
            )
    except sa.exc.IntegrityError:
        raise _exists(str(values["name"])) from None
    _tell_keys(conn, workspace_id, account_id)
    return before, get_account(conn, workspace_id, account_id)


def delete_account(conn: sa.Connection, workspace_id: int, account_id: UUID) -> ServiceAccount:
    """Remove the account and its keys; gives it as it was. Raises `NotFound`."""
    found = get_account(conn, workspace_id, account_id)
    _tell_keys(conn, workspace_id, account_id)
    conn.execute(
        sa.text("DELETE FROM app.service_accounts WHERE workspace_id = :workspace AND id = :id"),
        {"workspace": workspace_id, "id": account_id},
    )
    return found


def _tell_keys(conn: sa.Connection, workspace_id: int, account_id: UUID) -> None:
    rows = conn.execute(
        sa.text("SELECT id FROM app.api_keys WHERE workspace_id = :workspace AND service_account_id = :id"),
        {"workspace": workspace_id, "id": account_id},
    )
    found: list[str] = list(rows.scalars())
    for key_id in found:
        tell_changed(conn, workspace_id, key_id)


def _checked(
    conn: sa.Connection,
    workspace_id: int,
    name: str,
    description: str,
    roles: list[str],
    attributes: dict[str, list[str]],
) -> dict[str, object]:
    """The values to keep. Raises `InvalidServiceAccount`."""
    problems = name_problems(name, NAME_LENGTH) + length_problems(description, DESCRIPTION_LENGTH)
    if not 1 <= len(roles) <= MOST_ROLES:
        problems.append(FieldError("roles", f"should name 1 to {MOST_ROLES} roles"))
    known = known_roles(conn, workspace_id) - {MemberRole.OWNER}
    if any(role not in known for role in roles):
        problems.append(FieldError("roles", f"should be of {', '.join(sorted(known))}"))
    problems += attribute_problems(attributes)
    refuse(InvalidServiceAccount, problems)
    return {
        "name": name.strip(),
        "description": description.strip(),
        "roles": roles,
        "attributes": orjson.dumps(attributes).decode(),
    }


def _exists(name: str) -> ServiceAccountExists:
    return ServiceAccountExists(
        f"There is a service account called {name.strip()!r} already.",
        errors=[FieldError("name", "should be another one")],
    )


def _account(row: sa.Row[tuple[object, ...]]) -> ServiceAccount:
    found = row._mapping
    return ServiceAccount(
        id=found["id"],
        name=found["name"],
        description=found["description"],
        roles=tuple(found["roles"]),
        attributes={name: tuple(values) for name, values in found["attributes"].items()},
        created_by=found["created_by"],
        created_at=found["created_at"],
        updated_at=found["updated_at"],
        disabled_at=found["disabled_at"],
    )
