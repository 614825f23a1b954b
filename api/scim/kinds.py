"""The two kinds of resources as what is done with them: users are members, groups are teams.

Light: the SCIM library, which takes a moment, is not needed for it. Not here: how they look (`mapping`), the
protocol (`api.routes.scim`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import sqlalchemy as sa

from api.routes.members import handovers
from sluiceway.audit.actions import Action
from sluiceway.identity import provisioned_groups, provisioning
from sluiceway.identity.contracts import Caller
from sluiceway.identity.provisioned_groups import ProvisionedGroup
from sluiceway.identity.provisioning import Person, ProvisionedUser


class Kept(Protocol):
    """What is kept of a resource."""

    @property
    def id(self) -> UUID: ...


Found = TypeVar("Found", bound=Kept)


@dataclass(frozen=True, slots=True)
class Kind(Generic[Found]):
    """What is asked takes an open connection that acts for the workspace, and the workspace's id.

    `path`: the first part of its addresses. `read`, `target`: its names in the audit log, where it is read
    and where it is changed; `told`: a resource as the log has it. `create` and `replace` take what
    `mapping.Form.said` gives, all that change `giver` (see `sluiceway.identity.giving`) and `now`; `replace`
    gives a resource as it was and as it is.
    `names`: by which attributes (in small letters) a provider looks for one, and what it has there.
    """

    path: str
    read: str
    target: str
    created: Action
    changed: Action
    removed: Action
    list: Callable[[sa.Connection, int], Sequence[Found]]
    get: Callable[[sa.Connection, int, UUID], Found]
    create: Callable[..., Found]
    replace: Callable[..., tuple[Found, Found]]
    remove: Callable[..., object]
    told: Callable[[Found], Mapping[str, Any]]
    names: Mapping[str, Callable[[Found], str | None]]


def _create_user(
    conn: sa.Connection, workspace_id: int, person: Person, *, giver: Caller | None, now: datetime
) -> ProvisionedUser:
    # Whoever is new is what everybody may be at least: nothing is given that somebody could lack.
    return provisioning.create_user(conn, workspace_id, person, now=now)


def _remove_user(
    conn: sa.Connection, workspace_id: int, user_id: UUID, *, giver: Caller | None, now: datetime
) -> None:
    theirs = handovers("hand_over")
    provisioning.remove_user(conn, workspace_id, user_id, giver=giver, now=now, handovers=theirs)


def _remove_group(
    conn: sa.Connection, workspace_id: int, group_id: UUID, *, giver: Caller | None, now: datetime
) -> None:
    provisioned_groups.remove_group(conn, workspace_id, group_id, giver=giver)


def _told_user(user: ProvisionedUser) -> Mapping[str, Any]:
    return {"user_name": user.user_name, "email": user.email, "name": user.name, "active": user.active}


def _told_group(group: ProvisionedGroup) -> Mapping[str, Any]:
    return {"name": group.name, "members": sorted(str(member) for member, _ in group.members)}


USERS: Kind[ProvisionedUser] = Kind(
    path="Users",
    read="user",
    target="person",
    created=Action.PROVISIONING_USER_CREATED,
    changed=Action.PROVISIONING_USER_CHANGED,
    removed=Action.PROVISIONING_USER_REMOVED,
    list=provisioning.list_users,
    get=provisioning.get_user,
    create=_create_user,
    replace=provisioning.replace_user,
    remove=_remove_user,
    told=_told_user,
    names={
        "username": lambda user: user.user_name,
        "externalid": lambda user: user.external_id,
        "id": lambda user: str(user.id),
    },
)
GROUPS: Kind[ProvisionedGroup] = Kind(
    path="Groups",
    read="group",
    target="team",
    created=Action.PROVISIONING_GROUP_CREATED,
    changed=Action.PROVISIONING_GROUP_CHANGED,
    removed=Action.PROVISIONING_GROUP_REMOVED,
    list=provisioned_groups.list_groups,
    get=provisioned_groups.get_group,
    create=provisioned_groups.create_group,
    replace=provisioned_groups.replace_group,
    remove=_remove_group,
    told=_told_group,
    names={
        "displayname": lambda group: group.name,
        "externalid": lambda group: group.external_id,
        "id": lambda group: str(group.id),
    },
)
KINDS: Mapping[str, Kind[Any]] = {kind.path: kind for kind in (USERS, GROUPS)}
