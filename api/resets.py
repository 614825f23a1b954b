"""Forgotten passwords: asking for a link by mail, and using it. For the JSON routes and the pages alike.

What is answered never tells whether an account exists: the work is done after the answer has gone.
"""

import logging

import sqlalchemy as sa
from starlette.requests import Request

from api.addresses import client_address, source_of
from api.auditing import anonymous
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.identity import attempts, own_password, service
from sluiceway.identity.contracts import User
from sluiceway.identity.errors import SignInThrottled
from sluiceway.infra.database import Role, set_identity
from sluiceway.infra.mail import MailNotConfigured, mail_configured, send_later

log = logging.getLogger("sluiceway.api")

_SUBJECT = "Set a new password for Sluiceway"
_TEXT = """Somebody, probably you, asked to set a new password for {email} at {site}.

Open this link within an hour:

{link}

If it was not you, do nothing: your password stays as it is.
"""


def ask(request: Request, services: ApiServices) -> None:
    """Check that a link can be asked for now. `send` is to be called after the answer.

    Raises `MailNotConfigured`, or `SignInThrottled` for an address that asks too often.
    """
    if not mail_configured(services.settings):
        raise MailNotConfigured("This installation cannot send mail: ask whoever runs it for a new password.")
    source = source_of(client_address(request.scope))
    with services.database.transaction(Role.APP) as conn:
        attempts.begin_by(conn, "reset", source, now=services.clock.now())


def send(request: Request, services: ApiServices, email: str) -> None:
    """Mail the link, if the address is somebody's. Nothing of this is told to whoever asked."""
    try:
        with services.database.transaction(Role.APP) as conn:
            _send(request, services, conn, email)
    except SignInThrottled:
        log.info("no more than a few links to set a password are mailed to one person")
    except Exception:
        log.exception("a link to set a password could not be mailed")


def _send(request: Request, services: ApiServices, conn: sa.Connection, email: str) -> None:
    user = service.find_user(conn, email)
    if user is None or user.disabled_at is not None:
        return
    rooms = service.memberships(conn, user.id)
    if not rooms:
        return
    now = services.clock.now()
    attempts.begin_by(conn, "reset mail", str(user.id), now=now)
    token = own_password.begin_reset(conn, user.id, now=now)
    set_identity(conn, workspace_id=rooms[0].workspace_id, user_id=str(user.id))
    site = services.settings.public_url
    text = _TEXT.format(email=user.email, site=site, link=f"{site}/reset?token={token}")
    send_later(conn, services.database.envelope, rooms[0].workspace_id, user.email, _SUBJECT, text)
    actor = anonymous(request, user.email)
    record(conn, Entry(Action.PERSON_RESET_ASKED, actor, "user", str(user.id)))


def whose(services: ApiServices, token: str | None) -> User:
    """Whose link it is. Raises `ResetLinkInvalid`."""
    with services.database.transaction(Role.APP) as conn:
        return own_password.whose_reset(conn, token, now=services.clock.now())


def use(request: Request, services: ApiServices, token: str, password: str) -> User:
    """Set the new password; all sessions of the person end. Raises `ResetLinkInvalid` or `InvalidPerson`."""
    with services.database.transaction(Role.APP) as conn:
        user, ended = own_password.reset(conn, token, password, now=services.clock.now())
        rooms = service.memberships(conn, user.id)
        if rooms:
            set_identity(conn, workspace_id=rooms[0].workspace_id, user_id=str(user.id))
            actor = anonymous(request, user.email)
            detail = {"method": "reset", "sessions_ended": len(ended)}
            record(conn, Entry(Action.PERSON_PASSWORD_SET, actor, "user", str(user.id), detail=detail))
    return user
