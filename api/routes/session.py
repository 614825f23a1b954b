"""Who is asking: signing in and out, and the caller as the app shows them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import sign_in
from api.deps import Services, caller, catalog
from api.errors import problem_responses
from api.security import check_same_origin
from sluiceway.identity import service
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission, Scope

router = APIRouter(prefix="/v1", tags=["session"])


class Credentials(BaseModel):
    """What a person signs in with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"email": "ada@example.com", "password": "correct horse battery"}},
    )

    email: str = Field(min_length=1, max_length=300)
    password: str = Field(min_length=1, max_length=1000)


class WorkspaceRef(BaseModel):
    id: int
    slug: str
    name: str
    role: str | None = Field(description="Slug of the caller's role there; null for an API key.")


class Me(BaseModel):
    """Whoever is asking."""

    subject: str = Field(examples=["user:0198c0de-0000-7000-8000-000000000001", "key:abcdefghijkm"])
    kind: str = Field(description="`user` or `key`.")
    name: str
    email: str | None
    user_id: UUID | None
    role: str | None = Field(description="Slug of the person's own role, built in or the workspace's.")
    scopes: list[Scope] | None
    permissions: list[Permission]
    workspace: WorkspaceRef
    expires_at: datetime | None


@router.post(
    "/session",
    status_code=201,
    summary="Sign in",
    responses=problem_responses((401, 403, 429)),
)
def create_session(request: Request, body: Credentials, services: Services, response: Response) -> Me:
    """Begin a session: the answer sets the cookie `sluiceway_session`."""
    check_same_origin(request, services.settings.public_url)
    token, who = sign_in.sign_in(request, services, body.email, body.password)
    sign_in.set_cookie(response, services, token)
    response.headers["Cache-Control"] = "no-store"
    return describe(services, who)


@router.get("/session", summary="Who is signed in")
def get_session(services: Services, who: Annotated[Caller, Depends(caller)], response: Response) -> Me:
    """The caller, their role and permissions, and their workspace."""
    response.headers["Cache-Control"] = "no-store"
    return describe(services, who)


@router.delete("/session", status_code=204, summary="Sign out")
def delete_session(request: Request, services: Services, who: Annotated[Caller, Depends(caller)]) -> Response:
    """End the session and take the cookie back."""
    response = Response(status_code=204)
    sign_in.sign_out(request, services, response, who)
    return response


@router.get("/me", summary="Who is asking")
def get_me(services: Services, who: Annotated[Caller, Depends(caller)], response: Response) -> Me:
    """The same as `GET /v1/session`, under the name programs look for."""
    response.headers["Cache-Control"] = "no-store"
    return describe(services, who)


def describe(services: Services, who: Caller) -> Me:
    with catalog(services, who) as conn:
        slug, name, _ = service.workspace(conn, who.workspace_id)
    return Me(
        subject=who.subject,
        kind="user" if who.user_id else "key",
        name=who.name,
        email=who.email,
        user_id=who.user_id,
        role=who.role,
        scopes=None if who.key is None else sorted(who.key.scopes),
        permissions=sorted(who.permissions),
        workspace=WorkspaceRef(id=who.workspace_id, slug=slug, name=name, role=who.role),
        expires_at=who.expires_at,
    )
