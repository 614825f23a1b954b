"""Going from one workspace to another within a session, for the JSON route and for pages."""

from datetime import datetime

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from api.auditing import note
from api.deps import person_id
from api.security import cookie_name, session_token
from api.services import ApiServices
from api.sign_in import put_cookie
from sluiceway.audit.actions import Action
from sluiceway.identity import service, sessions, workspaces
from sluiceway.identity.contracts import Caller
from sluiceway.infra.database import Role, set_identity
from sluiceway.kit.errors import NotFound


def move(
    request: Request, services: ApiServices, response: Response, caller: Caller, workspace_id: int
) -> Caller:
    """Go on in the workspace under a new token, which the response's cookie holds; gives who they are there.

    Raises `NotFound` for a workspace that they may not enter.
    """
    token = session_token(request, services.settings) or ""
    user = person_id(caller)
    now = services.clock.now()
    with services.database.transaction(Role.APP, workspace_id=caller.workspace_id, user_id=str(user)) as conn:
        if workspace_id not in {room.workspace_id for room in service.memberships(conn, user)}:
            raise NotFound("There is no such workspace.")
        kept = _remembered(conn, token)
        fresh = workspaces.move_session(conn, token, workspace_id)
        set_identity(conn, workspace_id=workspace_id, user_id=str(user))
        found = sessions.find_session(conn, fresh, now=now)
        note(
            request, conn, found, Action.SESSION_MOVED, target="session",
            detail={"from": caller.workspace_id, "to": workspace_id},
        )  # fmt: skip
    lifetime_s = _left_s(found.expires_at, now) if kept else None
    put_cookie(response, services, cookie_name(services.settings), fresh, lifetime_s)
    return found


def _remembered(conn: sa.Connection, token: str) -> bool:
    """Whether the session outlives its browser."""
    return bool(
        conn.execute(
            sa.text("SELECT persistent FROM app.sessions WHERE token_hash = :hash"),
            {"hash": sessions.hash_token(token)},
        ).scalar()
    )


def _left_s(expires_at: datetime | None, now: datetime) -> int | None:
    return None if expires_at is None else max(0, int((expires_at - now).total_seconds()))
