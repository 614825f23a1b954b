"""What people change about themselves: name, preferences, where they are, leaving a workspace."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note
from api.deps import Person, Services, WholePerson, catalog, person_id
from api.errors import problem_responses
from api.moving import move
from api.preferring import prefer
from api.routes.members import handovers, left_detail, told
from api.routes.session import Me, describe
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import members, preferences, service
from sluiceway.identity.contracts import Caller
from sluiceway.kit.errors import NotFound

router = APIRouter(prefix="/v1", tags=["me"])

WorkspaceId = Annotated[int, Path(ge=1, le=2**31 - 1)]


class Name(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "Ada Lovelace"}})

    name: str = Field(min_length=1, max_length=service.NAME_LENGTH)


class Preferences(BaseModel):
    """Theme and time zone hold in every workspace; the start page is of the one the caller is in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"theme": "dark", "time_zone": "Europe/Vienna", "start_page": "/dashboard?slug=main"}
        },
    )

    theme: Literal["system", "light", "dark"] = "system"
    time_zone: str | None = Field(
        default=None, max_length=64, description="IANA name of the zone that times are shown in; null: UTC."
    )
    start_page: str | None = Field(
        default=None,
        max_length=preferences.START_PAGE_LENGTH,
        description="Path of the page that a sign-in leads to; null: the overview.",
    )


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"workspace_id": 2}})

    workspace_id: int = Field(ge=1, le=2**31 - 1)


@router.patch("/me", summary="Change one's own name")
def change_me(
    request: Request, services: Services, caller: WholePerson, body: Name, response: Response
) -> Me:
    """The name that others see, in every workspace."""
    with catalog(services, caller) as conn:
        service.set_name(conn, person_id(caller), body.name)
        note(
            request, conn, caller, Action.PERSON_RENAMED, target="person", target_id=caller.user_id,
            before={"name": caller.name}, after={"name": body.name.strip()},
        )  # fmt: skip
        found = service.get_user(conn, person_id(caller))
    response.headers["Cache-Control"] = "no-store"
    answer = describe(services, caller)
    return answer.model_copy(update={"name": found.name})


@router.get("/me/preferences", summary="One's own preferences")
def get_preferences(services: Services, caller: Person) -> Preferences:
    """Theme, time zone, start page."""
    with catalog(services, caller) as conn:
        return _preferences(preferences.get_preferences(conn, caller.workspace_id, person_id(caller)))


@router.put("/me/preferences", summary="Change one's own preferences")
def set_preferences(request: Request, services: Services, caller: Person, body: Preferences) -> Preferences:
    """All of them: what is left out is as at first."""
    wanted = preferences.Preferences(body.theme, body.time_zone, body.start_page)
    return _preferences(prefer(request, services, caller, wanted))


@router.put("/session/workspace", summary="Go to another workspace", responses=problem_responses((404,)))
def move_session(request: Request, services: Services, caller: Person, body: Place, response: Response) -> Me:
    """The session goes on there, for all tabs of the browser; the answer sets a new cookie."""
    found = move(request, services, response, caller, body.workspace_id)
    response.headers["Cache-Control"] = "no-store"
    return describe(services, found)


@router.delete(
    "/me/workspaces/{workspace_id}",
    status_code=204,
    summary="Leave a workspace",
    responses=problem_responses((409,)),
)
def leave_workspace(
    request: Request, services: Services, caller: WholePerson, workspace_id: WorkspaceId
) -> Response:
    """The one that the session is in. What was the caller's there is its longest-standing owner's.

    The last owner hands over first.
    """
    if workspace_id != caller.workspace_id:
        raise NotFound("There is no such workspace where you are; go there first.")
    leave(request, services, caller)
    return Response(status_code=204)


def leave(request: Request, services: ApiServices, who: Caller) -> None:
    """Leave the workspace that one is in, for this route and for the page. Raises `LastOwner`."""
    user = person_id(who)
    with catalog(services, who) as conn:
        left = members.remove_member(
            conn, who.workspace_id, user, giver=None, now=services.clock.now(), successor_id=None,
            handovers=handovers("hand_over"),
        )  # fmt: skip
        note(
            request, conn, who, Action.MEMBER_LEFT, target="member", target_id=user,
            before=told(left.member), detail=left_detail(left, "hand_over"),
        )  # fmt: skip


def _preferences(found: preferences.Preferences) -> Preferences:
    return Preferences(
        theme=found.theme,  # type: ignore[arg-type]  # the table holds one of the three
        time_zone=found.time_zone,
        start_page=found.start_page,
    )
