"""Looking at data as another role: `?as_role=` or the header `X-Sluiceway-View-As`.

For whoever sets up rules and dashboards, to see what they let through. It can only show less: the rules of
the role that is looked through hold, and those of whoever looks as well; what both may do is allowed.
"""

import re
from dataclasses import replace
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request

from api.auditing import note_read
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity.contracts import Caller, DataAccess
from sluiceway.identity.permissions import Permission
from sluiceway.identity.role_permissions import permissions_of_roles
from sluiceway.infra.database import Role
from sluiceway.kit.errors import FieldError, InvalidInput
from sluiceway.rules.book import RuleBook

HEADER = "x-sluiceway-view-as"
PARAMETER = "as_role"
LINK = "link"
MOST_CHARACTERS = 1_000
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ATTRIBUTE = re.compile(r"([a-z][a-z0-9_]{0,62})=(.{1,200})", re.DOTALL)
_OF_A_LINK = frozenset({Permission.DATA_READ, Permission.DASHBOARD_READ})
_SAID = "The role to look through; attributes may follow: `viewer;regions=EU;regions=US`."

AsRole = Annotated[str | None, Query(alias=PARAMETER, max_length=MOST_CHARACTERS, description=_SAID)]
AsRoleHeader = Annotated[
    str | None, Header(alias="X-Sluiceway-View-As", max_length=MOST_CHARACTERS, description=_SAID)
]


class InvalidView(InvalidInput):
    code = "invalid_view"
    title = "Nobody looks like that"


async def documented(as_role: AsRole = None, view_as: AsRoleHeader = None) -> None:
    """A dependency that says in OpenAPI that a route can be asked with another role's eyes."""


def rule_book(services: ApiServices) -> RuleBook:
    """What the rules mean for somebody: this process's one book."""
    found: RuleBook = services.extra.setdefault("rule_book", RuleBook())
    return found


def look(request: Request, services: ApiServices, caller: Caller) -> Caller:
    """The caller, with the eyes of the role that the request names, if it names one.

    Raises `NotPermitted` without `data:view_as`, `InvalidView` for a role or attribute that cannot be.
    """
    wanted = request.headers.get(HEADER) or request.query_params.get(PARAMETER)
    if not wanted:
        return caller
    caller.check(Permission.VIEW_AS)
    role, attributes = parse(wanted)
    with services.database.transaction(Role.APP, access=caller.access) as conn:
        may = _OF_A_LINK if role == LINK else permissions_of_roles(conn, caller.workspace_id, [role])
        if not may:
            problem = FieldError(PARAMETER, "should be a role of this workspace, or link")
            raise InvalidView(f"There is no role {role!r} in this workspace.", errors=[problem])
        note_read(
            request, conn, caller, Action.RULE_VIEWED_AS, target="role", target_id=role,
            detail={"attributes": attributes},
        )  # fmt: skip
    eyes = DataAccess.of(caller.workspace_id, [role], attributes, caller.user_id)
    viewing = replace(eyes, behind=caller.access)
    return replace(caller, viewing=viewing, permissions=caller.permissions & may)


def parse(text: str) -> tuple[str, dict[str, list[str]]]:
    """The role and the attributes in `role;name=value;…`. Raises `InvalidView`."""
    role, *parts = text[: MOST_CHARACTERS + 1].split(";")
    if len(text) > MOST_CHARACTERS or not _ROLE.fullmatch(role):
        problem = FieldError(PARAMETER, "should be the name of a role")
        raise InvalidView("The role to look through is not one.", errors=[problem])
    attributes: dict[str, list[str]] = {}
    for part in parts:
        match = _ATTRIBUTE.fullmatch(part)
        if match is None or any(ord(c) < 32 or "\ud800" <= c <= "\udfff" for c in part):
            problem = FieldError(PARAMETER, "attributes follow the role as ;name=value")
            raise InvalidView(f"{part[:60]!r} is not an attribute.", errors=[problem])
        attributes.setdefault(match[1], []).append(match[2])
    return role, attributes
