"""Mail: written in the sender's transaction, delivered over SMTP by the worker once that has committed.

Whoever sends asks `mail_configured` first: without SLUICEWAY_SMTP_URL nothing is queued. What a mail says is
sealed until it is delivered (it holds one-time links) and then forgotten. Delivery is at least once.
"""

import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import orjson
import sqlalchemy as sa

from sluiceway.infra import outbox
from sluiceway.infra.database import Database, Role
from sluiceway.infra.envelope import Envelope
from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import Conflict, InvalidInput
from sluiceway.kit.ids import uuid7

TOPIC = "mail"
KEPT = timedelta(days=7)
TIMEOUT_S = 20.0
_PORTS = {"smtp": 587, "smtps": 465}


class MailNotConfigured(Conflict):
    code = "mail_not_configured"
    title = "This installation cannot send mail"


class InvalidAddress(InvalidInput):
    code = "invalid_mail_address"
    title = "The e-mail address cannot be written to"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in. `starttls` is False for `smtps` (encrypted from the first byte)."""

    host: str
    port: int
    secure: bool
    starttls: bool
    user: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port}, ***)"

    @classmethod
    def of(cls, url: str) -> "MailServer":
        """From `smtp(s)://[user:password@]host[:port][?starttls=no]`, as the setting has checked it."""
        parts = urlsplit(url)
        wanted = parse_qs(parts.query).get("starttls", ["required"])[0]
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or _PORTS[parts.scheme],
            secure=parts.scheme == "smtps",
            starttls=parts.scheme == "smtp" and wanted != "no",
            user=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
        )


def mail_configured(settings: Settings) -> bool:
    """Whether this installation can send mail."""
    return settings.smtp_url is not None


def send_later(
    conn: sa.Connection,
    envelope: Envelope,
    workspace_id: int,
    to: str,
    subject: str,
    text: str,
    html: str | None = None,
) -> UUID:
    """Have a mail delivered once the caller's transaction (role APP, of the workspace) has committed.

    Returns its id in `app.mails`. Ask `mail_configured` first. Raises `InvalidAddress`.
    """
    _address(to)
    mail_id = uuid7()
    content = orjson.dumps({"subject": " ".join(subject.split()), "text": text, "html": html})
    conn.execute(
        sa.text(
            "INSERT INTO app.mails (id, workspace_id, recipient, sealed)"
            " VALUES (:id, :workspace, :to, :sealed)"
        ),
        {
            "id": mail_id,
            "workspace": workspace_id,
            "to": to,
            "sealed": envelope.seal(content, seal_context(workspace_id, mail_id)),
        },
    )
    outbox.put(conn, workspace_id, TOPIC, {"mail": str(mail_id)})
    return mail_id


def seal_context(workspace_id: int, mail_id: UUID) -> str:
    """What a mail's seal is bound to."""
    return f"mail/{workspace_id}/{mail_id}"


def deliverer(settings: Settings, database: Database) -> Callable[[outbox.OutboxMessage], None]:
    """The worker's handler of the topic. Raises `MailNotConfigured` where no server is set.

    An address that the mail server refuses for good is noted and not tried again; everything else that goes
    wrong is raised, so that the outbox tries later.
    """
    if settings.smtp_url is None:
        raise MailNotConfigured("SLUICEWAY_SMTP_URL is not set.")
    server = MailServer.of(settings.smtp_url)
    sender = settings.mail_from or f"sluiceway@{urlsplit(settings.public_url).hostname}"

    def deliver(message: outbox.OutboxMessage) -> None:
        mail_id = UUID(message.payload["mail"])
        with database.transaction(Role.WRITER) as conn:
            row = conn.execute(
                sa.text("SELECT recipient, sealed FROM app.mails WHERE id = :id"), {"id": mail_id}
            ).first()
        if row is None or row.sealed is None:
            return
        opened = database.envelope.open(bytes(row.sealed), seal_context(message.workspace_id, mail_id))
        content = orjson.loads(opened)
        problem: str | None = None
        try:
            with _connected(server) as smtp:
                smtp.send_message(_message(sender, row.recipient, mail_id, content))
        except smtplib.SMTPRecipientsRefused as refused:
            code, said = next(iter(refused.recipients.values()))
            if code < 500:
                raise
            problem = f"{code} {said.decode('utf-8', 'replace')}"[:300]
        with database.transaction(Role.WRITER) as conn:
            _settle(conn, mail_id, problem)

    return deliver


def sweep_mails(conn: sa.Connection, now: datetime) -> int:
    """Forget mails older than `KEPT`; returns how many. Role WRITER."""
    return conn.execute(
        sa.text("DELETE FROM app.mails WHERE created_at < :until"), {"until": now - KEPT}
    ).rowcount


def _settle(conn: sa.Connection, mail_id: UUID, problem: str | None) -> None:
    column = "sent_at" if problem is None else "refused_at"
    conn.execute(
        sa.text(
            f"UPDATE app.mails SET sealed = NULL, {column} = :now, problem = :problem"  # noqa: S608  # our own two
            " WHERE id = :id"
        ),
        {"now": datetime.now(UTC), "problem": problem, "id": mail_id},
    )


def _message(sender: str, to: str, mail_id: UUID, content: dict[str, str | None]) -> EmailMessage:
    """Headers are made by `email`, which folds and encodes them; no text of a person can add one."""
    message = EmailMessage(policy=SMTP_POLICY)
    message["From"] = sender
    message["To"] = (_address(to),)
    message["Subject"] = _plain(content["subject"] or "")
    message["Date"] = datetime.now(UTC)
    # The same for every attempt, so that a mail that is delivered twice can be recognised.
    domain = sender.rpartition("@")[2].rstrip("> ") or "localhost"
    message["Message-ID"] = f"<{mail_id.hex}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(content["text"] or "")
    if content["html"]:
        message.add_alternative(content["html"], subtype="html")
    return message


def _plain(text: str) -> str:
    """One line that says what it says. What looks like an encoded word (RFC 2047) would be decoded, line ends
    in it and all, and older releases of Python would write those as they are: further headers, or a body."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()).replace("=?", "= ?")


def _address(to: str) -> Address:
    try:
        found = Address(addr_spec=to)
    except (MessageError, ValueError, IndexError):
        found = Address()
    if not found.username or not found.domain or any(ord(c) < 33 for c in to) or "," in to or "=?" in to:
        raise InvalidAddress("That is no address that mail can be sent to.")
    return found


@contextmanager
def _connected(server: MailServer) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    smtp: smtplib.SMTP
    if server.secure:
        smtp = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
    else:
        smtp = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
    with smtp:
        if server.starttls:
            smtp.starttls(context=context)
        if server.user is not None:
            smtp.login(server.user, server.password or "")
        yield smtp
