"""Who is asking: signing in and out, and the caller as the app shows them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api import confirming, proving, sign_in
from api.deps import Person, Services, caller, catalog
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
        json_schema_extra={"example": {"email": "ada@example.com", "password": "a long phrase of your own"}},
    )

    email: str = Field(min_length=1, max_length=300)
    password: str = Field(min_length=1, max_length=1000)
    code: str | None = Field(
        default=None, max_length=40, description="Of the authenticator app, or a recovery code."
    )
    remember: bool = Field(
        default=False, description="Whether the session outlives the browser, where the workspace allows it."
    )


class Code(BaseModel):
    """What goes on after `second_factor_required`."""

    model_config = ConfigDict(extra="forbid")

    step: str = Field(max_length=100, description="As the error gave it.")
    code: str = Field(min_length=1, max_length=40, examples=["123456", "abcd-efgh-jkmn-pqrs"])


class PasskeyQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: str | None = Field(
        default=None, max_length=100, description="To go on after `second_factor_required`; null: to sign in."
    )


class AskedPasskey(BaseModel):
    """What a browser asks its person's passkey."""

    step: str = Field(description="Comes back with the answer.")
    options: dict[str, Any] = Field(description="As `PublicKeyCredential.parse…OptionsFromJSON` takes them.")


class PasskeyAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    step: str = Field(max_length=100)
    credential: dict[str, Any] = Field(description="As `PublicKeyCredential.toJSON` gives it.")


class PasskeySignIn(PasskeyAnswer):
    after: str | None = Field(
        default=None, max_length=100, description="The step of `second_factor_required`, to go on from it."
    )
    remember: bool = False


class Confirmation(BaseModel):
    """One of the three."""

    model_config = ConfigDict(extra="forbid")

    password: str | None = Field(default=None, min_length=1, max_length=1000)
    code: str | None = Field(default=None, min_length=1, max_length=40)
    passkey: PasskeyAnswer | None = None

    @model_validator(mode="after")
    def one(self) -> "Confirmation":
        if [self.password, self.code, self.passkey].count(None) != 2:
            raise ValueError("give one of password, code and passkey")
        return self


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
    roles: list[str] = Field(description="Slugs of all roles held, those of the person's teams included.")
    attributes: dict[str, list[str]] = Field(description="What row rules compare with, teams' included.")
    scopes: list[Scope] | None
    permissions: list[Permission]
    second_factor_missing: bool = Field(
        description="The workspace asks for a second factor and none was shown: set one up first."
    )
    workspace: WorkspaceRef
    expires_at: datetime | None


@router.post(
    "/session",
    status_code=201,
    summary="Sign in",
    responses=problem_responses((401, 403, 429)),
)
def create_session(request: Request, body: Credentials, services: Services, response: Response) -> Me:
    """Begin a session: the answer sets the cookie `sluiceway_session`.

    Who has a second factor sends `code` along, or goes on from the error `second_factor_required`, which
    holds the `step` and the `methods` there are.
    """
    check_same_origin(request, services.settings.public_url)
    found = proving.by_password(
        request, services, body.email, body.password, remember=body.remember, code=body.code
    )
    return _begun(services, response, found)


@router.post(
    "/session/second-factor",
    status_code=201,
    summary="Go on with a code",
    responses=problem_responses((401, 403, 429)),
)
def create_session_by_code(request: Request, body: Code, services: Services, response: Response) -> Me:
    """Begin the session that a right password has asked for. A wrong code leaves the step standing."""
    check_same_origin(request, services.settings.public_url)
    return _begun(services, response, proving.by_code(request, services, body.step, body.code))


@router.post("/session/passkey-options", summary="Ask for a passkey", responses=problem_responses((401, 403)))
def ask_passkey(
    request: Request, body: PasskeyQuestion, services: Services, response: Response
) -> AskedPasskey:
    """What the browser asks its person's passkey with, to sign in."""
    check_same_origin(request, services.settings.public_url)
    response.headers["Cache-Control"] = "no-store"
    asked = proving.ask_passkey(services, body.step)
    return AskedPasskey(step=asked.step, options=asked.options)


@router.post(
    "/session/passkey",
    status_code=201,
    summary="Sign in with a passkey",
    responses=problem_responses((401, 403, 429)),
)
def create_session_by_passkey(
    request: Request, body: PasskeySignIn, services: Services, response: Response
) -> Me:
    """Begin a session with the passkey's answer. It counts as both factors."""
    check_same_origin(request, services.settings.public_url)
    found = proving.by_passkey(
        request, services, body.step, body.credential, remember=body.remember, after=body.after
    )
    return _begun(services, response, found)


@router.post(
    "/session/confirmation",
    status_code=204,
    summary="Confirm that it is you",
    response_class=Response,
    responses=problem_responses((429,)),
)
def confirm_session(request: Request, body: Confirmation, services: Services, who: Person) -> None:
    """Changes of passwords, factors and sign-in settings are let through for ten minutes from now on."""
    if body.password is not None:
        confirming.by_password(request, services, who, body.password)
    elif body.code is not None:
        confirming.by_code(request, services, who, body.code)
    elif body.passkey is not None:
        confirming.by_passkey(request, services, who, body.passkey.step, body.passkey.credential)


@router.post("/session/confirmation/passkey-options", summary="Ask for a passkey to confirm with")
def ask_confirming_passkey(services: Services, who: Person, response: Response) -> AskedPasskey:
    """What the browser asks one of the person's own passkeys with."""
    response.headers["Cache-Control"] = "no-store"
    asked = confirming.ask_passkey(services, who)
    return AskedPasskey(step=asked.step, options=asked.options)


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


def _begun(services: Services, response: Response, found: proving.SignedIn) -> Me:
    sign_in.set_cookies(response, services, found)
    response.headers["Cache-Control"] = "no-store"
    return describe(services, found.caller)


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
        roles=list(who.roles),
        attributes={name: list(values) for name, values in who.attributes},
        scopes=None if who.key is None else sorted(who.key.scopes),
        permissions=[] if who.second_factor_missing else sorted(who.permissions),
        second_factor_missing=who.second_factor_missing,
        workspace=WorkspaceRef(id=who.workspace_id, slug=slug, name=name, role=who.role),
        expires_at=who.expires_at,
    )
