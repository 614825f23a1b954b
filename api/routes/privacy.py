"""A person's own data: taking it away as JSON, and deleting the account."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auditing import note
from api.confirming import Confirmed
from api.deps import Services, WholePerson, catalog
from api.errors import problem_responses
from api.routes.members import handovers
from api.security import cookie_name
from api.sign_in import drop_cookie
from sluiceway.audit.actions import Action
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidPerson
from sluiceway.identity.privacy import delete_person, export_person
from sluiceway.kit.errors import FieldError

router = APIRouter(prefix="/v1/me", tags=["me"])


class PersonalData(BaseModel):
    """Everything that is kept about a person."""

    person: str = Field(description="Their id.")
    exported_at: str
    data: dict[str, list[dict[str, Any]]] = Field(
        description="By table: the account and what hangs on it whole, without hashes and sealed values; what"
        " the person only made, by name and time."
    )
    audit: list[dict[str, Any]] = Field(description="What the audit log says of the person, per workspace.")


class Deletion(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"email": "ada@example.com"}})

    email: Annotated[
        str, Field(min_length=1, max_length=300, description="The person's own address, to say it is meant.")
    ]


@router.get("/export", summary="Everything kept about the person who asks")
def export_me(request: Request, services: Services, caller: WholePerson, response: Response) -> PersonalData:
    """The person's account, memberships, sessions, factors, preferences and what the audit log has of them,
    in every workspace."""
    assert caller.user_id is not None
    with catalog(services, caller) as conn:
        found = export_person(conn, caller.user_id, services.clock.now())
        note(request, conn, caller, Action.PERSON_EXPORTED, target="person", target_id=caller.user_id)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Disposition"] = 'attachment; filename="sluiceway-my-data.json"'
    return PersonalData(**found)


@router.post(
    "/deletion", status_code=204, summary="Delete one's own account", responses=problem_responses((409,))
)
def delete_me(services: Services, caller: Confirmed, _whole: WholePerson, body: Deletion) -> Response:
    """For good, in every workspace. What the person made stays with the workspace's longest owner.

    The person has confirmed lately who they are (403 `confirmation_required`). The audit log keeps what was
    done, without name and address. The only owner of a workspace hands it over first (409 `last_owner`).
    """
    response = Response(status_code=204)
    delete_account(services, caller, body.email, response)
    return response


def delete_account(services: Services, caller: Caller, email: str, response: Response) -> None:
    """Delete the caller's account and take the cookie back. Raises `InvalidPerson` or `LastOwner`."""
    assert caller.user_id is not None
    if email.strip().lower() != (caller.email or "").lower():
        problem = FieldError("email", "should be your own address")
        raise InvalidPerson("The address is not the one of the account.", errors=[problem])
    with catalog(services, caller) as conn:
        delete_person(conn, caller.user_id, now=services.clock.now(), handovers=handovers("hand_over"))
    drop_cookie(response, services, cookie_name(services.settings))
