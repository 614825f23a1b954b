"""Between SCIM's resources and the workspace's members and teams."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from scim2_models import InvalidValueException, Meta, Reference, Resource

from api.scim.models import Email, Group, Member, Membership, Name, User
from sluiceway.identity.provisioned_groups import Group as GroupInput
from sluiceway.identity.provisioned_groups import ProvisionedGroup
from sluiceway.identity.provisioning import Person, ProvisionedUser

_KEPT = ("name", "displayName", "emails")


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of resource looks. `of`: the resource for what is kept of it, with the service's address;
    `said`: what a resource says that was sent; `completed`: a payload with what providers leave out, and what
    it replaces (None: nothing)."""

    model: type[Resource[Any]]
    of: Callable[[Any, str], Resource[Any]]
    said: Callable[[Any], Any]
    completed: Callable[[Any, Any], Any]


def user_of(found: ProvisionedUser, base_url: str) -> User:
    """The resource for a member: what the provider sent of them, or what the account says."""
    said = found.attributes
    emails = [Email.model_validate(email) for email in said.get("emails", ())]
    name = said.get("name")
    return User(
        id=str(found.id),
        external_id=found.external_id,
        user_name=found.user_name,
        name=Name(
            formatted=name.get("formatted"),
            family_name=name.get("familyName"),
            given_name=name.get("givenName"),
        )
        if name
        else None,
        display_name=said.get("displayName") if said else found.name,
        active=found.active,
        emails=emails or [Email(value=found.email, type=None, primary=True)],
        groups=[
            Membership(value=str(team), ref=Reference(f"{base_url}/Groups/{team}"), display=label)
            for team, label in found.teams
        ]
        or None,
        meta=Meta(
            resource_type="User",
            created=found.created_at,
            last_modified=found.updated_at,
            location=f"{base_url}/Users/{found.id}",
        ),
    )


def person_of(user: User) -> Person:
    """What the provider says of a person. Their address is the primary one, else the first."""
    emails = user.emails or []
    chosen = next((e for e in emails if e.primary), emails[0] if emails else None)
    user_name = (user.user_name or "").strip()
    name = user.name or Name()
    parts = " ".join(part for part in (name.given_name, name.family_name) if part)
    sent: Mapping[str, Any] = user.model_dump()
    return Person(
        user_name=user_name,
        email=(chosen.value or "").strip() if chosen is not None else user_name,
        name=next(filter(None, (user.display_name, name.formatted, parts)), user_name)[:120],
        external_id=user.external_id,
        active=bool(user.active),
        attributes={key: sent[key] for key in _KEPT if sent.get(key)},
    )


def group_of(found: ProvisionedGroup, base_url: str) -> Group:
    return Group(
        id=str(found.id),
        external_id=found.external_id,
        display_name=found.name,
        members=[
            Member(value=str(user), ref=Reference(f"{base_url}/Users/{user}")) for user, _ in found.members
        ]
        or None,
        meta=Meta(
            resource_type="Group",
            created=found.created_at,
            last_modified=found.updated_at,
            location=f"{base_url}/Groups/{found.id}",
        ),
    )


def input_of(group: Group) -> GroupInput:
    """Raises `InvalidValueException` for a member that is no user's id."""
    members = []
    for member in group.members or []:
        try:
            members.append(UUID(member.value or ""))
        except ValueError:
            raise InvalidValueException(
                detail=f"members: {member.value!r} is no user's id; groups in groups are not kept"
            ) from None
    return GroupInput((group.display_name or "").strip(), group.external_id, tuple(dict.fromkeys(members)))


def completed(payload: Any, before: ProvisionedUser | None) -> Any:
    """A user as some providers mean it: without `emails` its `userName` is the address.

    Without `active` it stays as it is: who was deactivated stays so until the provider says otherwise.
    """
    if not isinstance(payload, dict):
        return payload
    names = {str(key).lower(): key for key in payload}
    user_name, found = payload.get(names.get("username", "")), dict(payload)
    if payload.get(names.get("active", "")) is None:
        found[names.get("active", "active")] = before is None or before.active
    if not payload.get(names.get("emails", "")) and isinstance(user_name, str) and "@" in user_name:
        found[names.get("emails", "emails")] = [{"value": user_name, "primary": True}]
    return found


FORMS: Mapping[str, Form] = {
    "Users": Form(User, user_of, person_of, completed),
    "Groups": Form(Group, group_of, input_of, lambda payload, before: payload),
}
"""By the first part of their addresses."""
