"""How one signs in oneself: password, authenticator app, recovery codes, passkeys, known browsers, sessions.

Changes need a session that was confirmed within ten minutes (`POST /v1/session/confirmation`).
"""

import io
from datetime import datetime
from uuid import UUID

import segno
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import own_sign_in
from api.confirming import confirmed
from api.deps import Person, Services
from api.errors import problem_responses
from api.routes.session import AskedPasskey, PasskeyAnswer
from sluiceway.identity import passkeys, sessions

router = APIRouter(prefix="/v1/me", tags=["session"])
Fresh = Depends(confirmed)


class Passkey(BaseModel):
    id: UUID
    name: str
    synced: bool = Field(description="Also kept in the person's account at the maker of their device.")
    created_at: datetime
    last_used_at: datetime | None


class OwnSignIn(BaseModel):
    """How the person signs in."""

    has_password: bool
    password_set_at: datetime | None = Field(description="Null: not changed since the account was made.")
    totp_since: datetime | None = Field(description="Since when there is an authenticator app; null: none.")
    recovery_codes_left: int
    passkeys: list[Passkey]
    known_devices: int = Field(description="Browsers that others' failed attempts do not hold up.")
    providers: list[str] = Field(description="Names of the identity providers one came through.")
    second_factor_required: bool = Field(description="Whether the workspace asks for a second factor.")


class NewPassword(BaseModel):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"password": "four words that nobody says"}}
    )

    password: str = Field(min_length=1, max_length=1000)


class NewApp(BaseModel):
    """An authenticator app to be set up. It is in use once a code of it was right."""

    step: str
    secret: str = Field(description="Base32, to be typed in where a QR code cannot be read.")
    uri: str = Field(examples=["otpauth://totp/Sluiceway:ada%40example.com?secret=…&issuer=Sluiceway"])
    qr_svg: str = Field(description="The URI as a QR code, an SVG document.")


class FirstCode(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"step": "…", "code": "123456"}})

    step: str = Field(max_length=100)
    code: str = Field(min_length=1, max_length=20)


class RecoveryCodes(BaseModel):
    """Each is good once. They are not kept and cannot be shown again."""

    codes: list[str]


class NewPasskey(PasskeyAnswer):
    name: str = Field(min_length=1, max_length=passkeys.NAME_LENGTH)


class PasskeyName(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=passkeys.NAME_LENGTH)


class Session(BaseModel):
    """A sign-in that has not ended."""

    id: UUID
    user_id: UUID
    email: str
    workspace: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    method: str = Field(description="`password`, `passkey`, `provider`, `invitation` or `reset`.")
    second_factor: bool
    remembered: bool
    current: bool = Field(description="Whether it is the one that asks.")


@router.get("/sign-in", summary="How one signs in")
def get_own_sign_in(services: Services, who: Person, response: Response) -> OwnSignIn:
    """Password, authenticator app, passkeys and what the workspace asks for."""
    response.headers["Cache-Control"] = "no-store"
    found = own_sign_in.state(services, who)
    return OwnSignIn(
        has_password=found.has_password,
        password_set_at=found.password_set_at,
        totp_since=found.factors.totp_since,
        recovery_codes_left=found.factors.recovery_left,
        passkeys=[describe_passkey(p) for p in found.passkeys],
        known_devices=found.devices,
        providers=list(found.providers),
        second_factor_required=found.second_factor_required,
    )


@router.put(
    "/password",
    status_code=204,
    response_class=Response,
    summary="Change the password",
    dependencies=[Fresh],
)
def set_own_password(request: Request, services: Services, who: Person, body: NewPassword) -> None:
    """All other sessions of the person end."""
    own_sign_in.set_password(request, services, who, body.password)


@router.post("/totp", status_code=201, summary="Set up an authenticator app", dependencies=[Fresh])
def begin_totp(request: Request, services: Services, who: Person, response: Response) -> NewApp:
    """Make its secret. An app that is there stays in use until the first code of the new one."""
    response.headers["Cache-Control"] = "no-store"
    made = own_sign_in.begin_totp(request, services, who)
    return NewApp(step=made.step, secret=made.secret, uri=made.uri, qr_svg=qr_svg(made.uri))


@router.put(
    "/totp", summary="Take the app into use", dependencies=[Fresh], responses=problem_responses((401,))
)
def confirm_totp(
    request: Request, services: Services, who: Person, body: FirstCode, response: Response
) -> RecoveryCodes:
    """With its first code. The answer holds new recovery codes."""
    response.headers["Cache-Control"] = "no-store"
    return RecoveryCodes(codes=own_sign_in.confirm_totp(request, services, who, body.step, body.code))


@router.delete(
    "/totp",
    status_code=204,
    response_class=Response,
    summary="Remove the authenticator app",
    dependencies=[Fresh],
    responses=problem_responses((404,)),
)
def remove_totp(request: Request, services: Services, who: Person) -> None:
    """Its recovery codes go with it."""
    own_sign_in.remove_totp(request, services, who)


@router.post(
    "/recovery-codes",
    status_code=201,
    summary="Make new recovery codes",
    dependencies=[Fresh],
    responses=problem_responses((404,)),
)
def make_recovery_codes(
    request: Request, services: Services, who: Person, response: Response
) -> RecoveryCodes:
    """The old ones are good no more."""
    response.headers["Cache-Control"] = "no-store"
    return RecoveryCodes(codes=own_sign_in.new_recovery_codes(request, services, who))


@router.post("/passkeys/options", summary="Ask for a new passkey", dependencies=[Fresh])
def ask_for_new_passkey(services: Services, who: Person, response: Response) -> AskedPasskey:
    """What the browser makes a passkey from."""
    response.headers["Cache-Control"] = "no-store"
    asked = own_sign_in.ask_for_passkey(services, who)
    return AskedPasskey(step=asked.step, options=asked.options)


@router.post(
    "/passkeys",
    status_code=201,
    summary="Add a passkey",
    dependencies=[Fresh],
    responses=problem_responses((401,)),
)
def add_passkey(request: Request, services: Services, who: Person, body: NewPasskey) -> Passkey:
    """Keep the passkey that the browser made."""
    made = own_sign_in.add_passkey(request, services, who, body.step, body.credential, body.name)
    return describe_passkey(made)


@router.patch("/passkeys/{passkey_id}", summary="Rename a passkey")
def rename_passkey(
    request: Request, services: Services, who: Person, passkey_id: UUID, body: PasskeyName
) -> Passkey:
    """Names are for the person alone."""
    return describe_passkey(own_sign_in.rename_passkey(request, services, who, passkey_id, body.name))


@router.delete(
    "/passkeys/{passkey_id}",
    status_code=204,
    response_class=Response,
    summary="Remove a passkey",
    dependencies=[Fresh],
)
def remove_passkey(request: Request, services: Services, who: Person, passkey_id: UUID) -> None:
    """It signs nobody in any more; the device may still offer it until it is deleted there."""
    own_sign_in.remove_passkey(request, services, who, passkey_id)


@router.delete(
    "/devices",
    status_code=204,
    response_class=Response,
    summary="Forget the browsers one is known by",
    dependencies=[Fresh],
)
def forget_devices(request: Request, services: Services, who: Person) -> None:
    """Signing in from them is then held up by others' failed attempts, as from anywhere."""
    own_sign_in.forget_devices(request, services, who)


@router.get("/sessions", summary="Where one is signed in")
def list_own_sessions(request: Request, services: Services, who: Person) -> list[Session]:
    """In all workspaces, the one last used first. At most a few dozen: not paged."""
    return [describe_session(s) for s in own_sign_in.list_sessions(request, services, who)]


@router.delete("/sessions", status_code=204, response_class=Response, summary="Sign out everywhere else")
def end_other_sessions(request: Request, services: Services, who: Person) -> None:
    """End all sessions of the person but this one."""
    own_sign_in.end_other_sessions(request, services, who)


@router.delete(
    "/sessions/{session_id}", status_code=204, response_class=Response, summary="End one's session"
)
def end_own_session(request: Request, services: Services, who: Person, session_id: UUID) -> None:
    """At once, in every process."""
    own_sign_in.end_session(request, services, who, session_id)


def describe_session(found: sessions.Session) -> Session:
    return Session(
        id=found.id,
        user_id=found.user_id,
        email=found.email,
        workspace=found.workspace_name,
        created_at=found.created_at,
        last_seen_at=found.last_seen_at,
        expires_at=found.expires_at,
        user_agent=found.user_agent,
        address=found.address,
        method=found.method,
        second_factor=found.second_factor,
        remembered=found.persistent,
        current=found.current,
    )


def describe_passkey(found: passkeys.Passkey) -> Passkey:
    return Passkey(
        id=found.id,
        name=found.name,
        synced=found.synced,
        created_at=found.created_at,
        last_used_at=found.last_used_at,
    )


def qr_svg(text: str) -> str:
    """A QR code as an SVG document without a style of its own."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", border=2, xmldecl=False, svgclass="qr", lineclass=None, omitsize=True
    )
    return out.getvalue().decode()
