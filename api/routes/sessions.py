"""Other members' sessions, and their lost second factors: seen and ended by those who may."""

from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Query, Request, Response

from api.auditing import note, note_read
from api.confirming import confirmed
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.pagination import CursorParameter, Limit, Page, decode_newest, newest_page
from api.routes.own_sign_in import Session, describe_session
from api.security import session_token
from sluiceway.audit.actions import Action
from sluiceway.identity import devices, factors, members, passkeys, service, sessions
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import BelongsElsewhere
from sluiceway.identity.giving import check_gives_roles
from sluiceway.identity.permissions import Permission
from sluiceway.kit.errors import NotFound

router = APIRouter(prefix="/v1", tags=["members"])

MayManage = Annotated[Caller, Depends(require(Permission.SESSION_MANAGE))]


@router.get("/sessions", summary="List sessions")
def list_sessions(
    request: Request,
    services: Services,
    caller: MayManage,
    user_id: Annotated[UUID | None, Query(description="One member's alone.")] = None,
    limit: Limit = 50,
    cursor: CursorParameter = None,
) -> Page[Session]:
    """Everybody's sessions in the workspace, the one last begun first."""
    after = decode_newest(cursor)
    with catalog(services, caller) as conn:
        found = sessions.workspace_sessions(
            conn,
            caller.workspace_id,
            now=services.clock.now(),
            limit=limit + 1,
            after=after,
            user_id=user_id,
            token=session_token(request, services.settings),
        )
        note_read(request, conn, caller, Action.SESSION_LISTED, target="session")
    return newest_page(found, limit, describe_session)


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    response_class=Response,
    summary="End a session",
    dependencies=[Depends(confirmed)],
)
def end_session(request: Request, services: Services, caller: MayManage, session_id: UUID) -> None:
    """Of any member: at once in this process, and within seconds in any other."""
    with catalog(services, caller) as conn:
        ended = sessions.end_in_workspace(conn, caller.workspace_id, session_id)
        if ended is None:
            raise NotFound("There is no such session in this workspace.")
        note(
            request,
            conn,
            caller,
            Action.SESSION_ENDED,
            target="session",
            target_id=session_id,
            detail={"user_id": ended[0]},
        )


@router.delete(
    "/members/{user_id}/second-factor",
    status_code=204,
    response_class=Response,
    summary="Remove a member's second factor",
    dependencies=[Depends(confirmed)],
    responses=problem_responses((409,)),
)
def remove_second_factor(
    request: Request,
    services: Services,
    caller: Annotated[Caller, Depends(require(Permission.MEMBER_MANAGE))],
    user_id: UUID,
) -> None:
    """For somebody who lost phone and codes: app, codes, passkeys and sessions go; the password stays.

    Only of somebody who holds no more than the caller, and belongs to no other organization.
    """
    with catalog(services, caller) as conn:
        member = members.get_member(conn, caller.workspace_id, user_id)
        check_gives_roles(conn, caller.workspace_id, caller, member.roles)
        _check_only_here(conn, user_id)
        service.act_for(conn, user_id)
        factors.remove_totp(conn, user_id)
        passkeys.remove(conn, user_id)
        devices.forget_all(conn, user_id)
        sessions.end_own(conn, user_id)
        note(request, conn, caller, Action.SECOND_FACTOR_REMOVED, target="user", target_id=user_id)


def _check_only_here(conn: sa.Connection, user_id: UUID) -> None:
    found: int = conn.execute(
        sa.text("SELECT count(*) FROM app.organizations_of(:user) o WHERE o <> app.current_organization()"),
        {"user": user_id},
    ).scalar_one()
    if found:
        raise BelongsElsewhere("This person also belongs to another organization: only they can change this.")
