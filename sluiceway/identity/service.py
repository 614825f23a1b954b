"""People: making them, checking their password, what they belong to.

Services take an open connection (role APP) and do not commit. Sessions and keys have modules of their own.
"""

import re
import uuid
from collections.abc import Iterable
from datetime import datetime

import sqlalchemy as sa

from sluiceway.identity import passwords
from sluiceway.identity.contracts import Membership, User
from sluiceway.identity.errors import EmailTaken, InvalidPerson, WrongCredentials
from sluiceway.identity.permissions import MemberRole
from sluiceway.identity.strength import password_problem
from sluiceway.kit.errors import FieldError, NotFound
from sluiceway.kit.ids import uuid7

NAME_LENGTH = 120
# Not RFC 5322: enough to catch a slip. Whether an address exists only mail can tell.
EMAIL = re.compile(r"[^\s@<>\"'\x00-\x1f]{1,64}@[^\s@<>\"'\x00-\x1f]{1,190}")


def create_user(
    conn: sa.Connection,
    email: str,
    name: str,
    password: str,
    role: MemberRole | str = MemberRole.VIEWER,
    workspace_id: int = 1,
) -> User:
    """Make a person and their membership of one workspace; the transaction acts for that workspace.

    Raises `InvalidPerson` (address, name, password or role) or `EmailTaken`.
    """
    unknown = (
        [] if role in tuple(MemberRole) else [FieldError("role", f"should be one of {', '.join(MemberRole)}")]
    )
    check_person(email, name, password, *unknown)
    user = add_person(conn, email, name, password)
    add_member(conn, workspace_id, user.id, role)
    return user


def add_person(conn: sa.Connection, email: str, name: str, password: str | None) -> User:
    """Make a person who belongs nowhere yet. Without a password they sign in some other way.

    The input is checked by the caller. Raises `EmailTaken`.
    """
    user_id = uuid7()
    created_at: datetime | None = conn.execute(
        sa.text("SELECT app.add_person(:id, :email, :name, :hash)"),
        {
            "id": user_id,
            "email": email.strip(),
            "name": name.strip(),
            "hash": None if password is None else passwords.hash_password(password),
        },
    ).scalar_one()
    if created_at is None:
        raise EmailTaken("Someone with this e-mail address exists already.")
    return User(user_id, email.strip(), name.strip(), created_at)


def add_member(conn: sa.Connection, workspace_id: int, user_id: uuid.UUID, role: str) -> None:
    """Make the person a member, or give the member another role (a slug, built in or the workspace's)."""
    conn.execute(
        sa.text(
            "INSERT INTO app.memberships (workspace_id, user_id, role) VALUES (:workspace, :user, :role)"
            " ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role"
        ),
        {"workspace": workspace_id, "user": user_id, "role": str(role)},
    )


def set_password(conn: sa.Connection, user_id: uuid.UUID, password: str) -> None:
    """Replace the password. Raises `InvalidPerson` if it is too short, too long or too easy to guess."""
    problem = _password_problem(password)
    if problem:
        raise InvalidPerson("The password is not valid.", errors=[problem])
    _keep_hash(conn, user_id, passwords.hash_password(password))


def find_user(conn: sa.Connection, email: str) -> User | None:
    """The person with this address, in any case of letters, or None."""
    row = conn.execute(
        sa.text("SELECT id, email, name, created_at, disabled_at FROM app.find_person(:email)"),
        {"email": email.strip()},
    ).first()
    return None if row is None else User(row.id, row.email, row.name, row.created_at, row.disabled_at)


def get_user(conn: sa.Connection, user_id: uuid.UUID) -> User:
    """Somebody whom the transaction acts for, or a member of its workspace. Raises `NotFound`."""
    row = conn.execute(
        sa.text("SELECT id, email, name, created_at, disabled_at FROM app.users WHERE id = :id"),
        {"id": user_id},
    ).first()
    if row is None:
        raise NotFound("There is no such person.")
    return User(row.id, row.email, row.name, row.created_at, row.disabled_at)


def password_hash(conn: sa.Connection, email: str) -> str | None:
    """What a password is compared with; None: nobody has the address, or none of theirs lets them in.

    Needs the role SIGN_IN, which may do this alone: no other can read a hash.
    """
    found: str | None = conn.execute(
        sa.text("SELECT app.password_for_sign_in(:email)"), {"email": email.strip()}
    ).scalar()
    return found


def check_password(conn: sa.Connection, email: str, password: str, hashed: str | None) -> User:
    """Who signs in. An unknown address, a disabled person and a wrong password cost and look the same.

    `hashed`: from `password_hash`. Raises `WrongCredentials`.
    """
    user = find_user(conn, email)
    usable = user is not None and user.disabled_at is None
    fits = passwords.verify(hashed if usable else None, password)
    if user is None or hashed is None or not fits:
        raise WrongCredentials("The e-mail address or the password is wrong.")
    if passwords.needs_rehash(hashed):
        _keep_hash(conn, user.id, passwords.hash_password(password))
    return user


def act_for(conn: sa.Connection, user_id: uuid.UUID) -> None:
    """From now on the transaction acts for this person; which workspace it acts for stays as it is."""
    conn.execute(sa.text("SELECT set_config('sluiceway.user_id', :id, true)"), {"id": str(user_id)})


def _keep_hash(conn: sa.Connection, user_id: uuid.UUID, hashed: str) -> None:
    """Raises `NotFound`. The person need not belong to the workspace that is acted for."""
    acting: str = conn.execute(sa.text("SELECT current_setting('sluiceway.user_id', true)")).scalar() or ""
    act_for(conn, user_id)
    done = conn.execute(
        sa.text("UPDATE app.users SET password_hash = :hash WHERE id = :id"), {"hash": hashed, "id": user_id}
    )
    conn.execute(sa.text("SELECT set_config('sluiceway.user_id', :id, true)"), {"id": acting})
    if done.rowcount == 0:
        raise NotFound("There is no such person.")


def memberships(conn: sa.Connection, user_id: uuid.UUID) -> list[Membership]:
    """Every workspace the person may enter: the one they were in last, then the oldest membership first."""
    rows = conn.execute(sa.text("SELECT * FROM app.memberships_of(:user)"), {"user": user_id})
    return [
        Membership(
            workspace_id=row.workspace_id,
            workspace_slug=row.workspace_slug,
            workspace_name=row.workspace_name,
            organization_slug=row.organization_slug,
            role=row.role,
            organization_name=row.organization_name,
        )
        for row in rows
    ]


def workspace(conn: sa.Connection, workspace_id: int) -> tuple[str, str, datetime]:
    """Slug, name and time of making. Raises `NotFound`."""
    row = conn.execute(
        sa.text("SELECT slug, name, created_at FROM app.workspaces WHERE id = :id"), {"id": workspace_id}
    ).first()
    if row is None:
        raise NotFound("There is no such workspace.")
    return row.slug, row.name, row.created_at


def find_workspace(conn: sa.Connection, slug: str | None) -> int | None:
    """The workspace of this slug, the first one for None; None: there is none, or several have the slug."""
    rows = conn.execute(sa.text("SELECT id FROM app.find_workspaces(:slug)"), {"slug": slug}).all()
    return int(rows[0].id) if len(rows) == 1 else None


def check_person(email: str, name: str, password: str, *further: FieldError) -> None:
    """Raise `InvalidPerson` naming every field that is wrong, and what the caller found `further`."""
    problems: list[FieldError] = []
    if not EMAIL.fullmatch(email.strip()):
        problems.append(FieldError("email", "should be an e-mail address"))
    if not name.strip() or len(name) > NAME_LENGTH:
        problems.append(FieldError("name", f"should have 1 to {NAME_LENGTH} characters"))
    if (problem := _password_problem(password, (email, name))) is not None:
        problems.append(problem)
    problems += further
    if problems:
        raise InvalidPerson("; ".join(f"{p.field} {p.message}" for p in problems), errors=problems)


def set_name(conn: sa.Connection, user_id: uuid.UUID, name: str) -> None:
    """Raises `InvalidPerson`, or `NotFound` for somebody whom the transaction does not act for or meet."""
    if not name.strip() or len(name) > NAME_LENGTH:
        problem = FieldError("name", f"should have 1 to {NAME_LENGTH} characters")
        raise InvalidPerson("The name is not valid.", errors=[problem])
    done = conn.execute(
        sa.text("UPDATE app.users SET name = :name WHERE id = :id"), {"name": name.strip(), "id": user_id}
    )
    if done.rowcount == 0:
        raise NotFound("There is no such person.")


def _password_problem(password: str, about: Iterable[str] = ()) -> FieldError | None:
    found = password_problem(password, about)
    return None if found is None else FieldError("password", found)
