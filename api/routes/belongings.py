"""What a member made or holds here, counted: what whoever removes them should know first."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from api.auditing import note_read
from api.deps import Services, catalog, require
from sluiceway.audit.actions import Action
from sluiceway.dashboards import belongings as boards
from sluiceway.identity import belongings, members
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission

router = APIRouter(prefix="/v1/members", tags=["members"])


class Belongings(BaseModel):
    """How many of each."""

    dashboards: int
    links: int = Field(description="To dashboards, that still show something.")
    keys: int = Field(description="That they made, and that work.")
    service_accounts: int
    invitations: int = Field(description="That they sent, and that are open: removing takes them back.")
    sessions: int = Field(description="In this workspace: removing ends them.")


@router.get("/{user_id}/belongings", summary="What is a member's here")
def count_belongings(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.MEMBER_MANAGE))],
    user_id: UUID,
) -> Belongings:
    """Before they are removed: dashboards, links, keys and service accounts change hands then."""
    now = services.clock.now()
    with catalog(services, caller) as conn:
        members.get_member(conn, caller.workspace_id, user_id)
        held = belongings.belongings(conn, caller.workspace_id, user_id, now=now)
        made = boards.belongings(conn, caller.workspace_id, user_id, now=now)
        note_read(request, conn, caller, Action.MEMBER_LISTED, target="member", target_id=user_id)
    return Belongings(
        dashboards=made.dashboards,
        links=made.links,
        keys=held.keys,
        service_accounts=held.service_accounts,
        invitations=held.invitations,
        sessions=held.sessions,
    )
