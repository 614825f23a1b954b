"""Mail: queued with its cause, sealed until it is sent, delivered once, or refused for good."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from sluiceway.infra import mail, outbox
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings, WrongSetting, load_settings
from sluiceway.runtime.processes.worker import mail_handlers
from tests.support.inbox import Inbox, running_inbox

SECRET = "https://example.com/invitation/the-only-link"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    with running_inbox() as found:
        yield found


def _settings(base: Settings, port: int) -> Settings:
    return load_settings(
        {
            "SLUICEWAY_HOME": str(base.home),
            "SLUICEWAY_DATABASE_URL": str(base.database_url),
            "SLUICEWAY_SECRET_KEY": str(base.secret_key),
            "SLUICEWAY_SMTP_URL": f"smtp://127.0.0.1:{port}?starttls=no",
            "SLUICEWAY_MAIL_FROM": '"Data, Inc." <data@example.com>',
        }
    )


def _send(database: Database, to: str, subject: str = "Join", text: str = SECRET) -> None:
    with database.transaction(Role.APP, workspace_id=1) as conn:
        mail.send_later(conn, database.envelope, 1, to, subject, text)


def _work(database: Database, settings: Settings) -> int:
    handlers = mail_handlers(settings, database)
    return outbox.OutboxWorker(database, "test", handlers).work()


def _rows(database: Database) -> list[Any]:
    with database.engine(Role.OWNER).connect() as conn:
        return list(conn.execute(sa.text("SELECT * FROM app.mails ORDER BY id")))


def test_a_mail_is_sealed_then_delivered_then_forgotten(
    database: Database, settings: Settings, inbox: tuple[Inbox, int]
) -> None:
    box, port = inbox
    _send(database, "ada@example.com", subject="Häuser\r\nBcc: eve@example.com")
    waiting = _rows(database)[0]
    assert SECRET.encode() not in bytes(waiting.sealed) and waiting.sent_at is None
    with database.engine(Role.OWNER).connect() as conn:
        assert SECRET not in str(conn.execute(sa.text("SELECT payload FROM app.outbox")).scalar_one())
    assert _work(database, _settings(settings, port)) == 1
    ((to, message),) = box.messages
    assert to == ["ada@example.com"] and message["To"] == "ada@example.com"
    assert message["Subject"] == "Häuser Bcc: eve@example.com" and message["Bcc"] is None
    assert message["From"] == '"Data, Inc." <data@example.com>'
    assert message["Auto-Submitted"] == "auto-generated" and "@example.com>" in message["Message-ID"]
    assert SECRET in message.get_content()
    sent = _rows(database)[0]
    assert sent.sealed is None and sent.sent_at is not None
    assert _work(database, _settings(settings, port)) == 0 and len(box.messages) == 1


def test_an_address_that_is_refused_is_noted_and_not_tried_again(
    database: Database, settings: Settings, inbox: tuple[Inbox, int]
) -> None:
    box, port = inbox
    _send(database, "ada@gone.example")
    _work(database, _settings(settings, port))
    refused = _rows(database)[0]
    assert refused.problem == "550 no such mailbox" and refused.sealed is None
    assert _work(database, _settings(settings, port)) == 0 and box.messages == []


def test_a_server_in_trouble_is_tried_again(
    database: Database, settings: Settings, inbox: tuple[Inbox, int]
) -> None:
    box, port = inbox
    _send(database, "ada@example.com")
    box.trouble = "451 later"
    _work(database, _settings(settings, port))
    assert _rows(database)[0].sealed is not None and box.messages == []
    with database.engine(Role.OWNER).begin() as conn:
        assert "451" in conn.execute(sa.text("SELECT last_error FROM app.outbox")).scalar_one()
        conn.execute(sa.text("UPDATE app.outbox SET available_at = now()"))
    box.trouble = None
    assert _work(database, _settings(settings, port)) == 1
    assert len(box.messages) == 1


def test_what_is_rolled_back_is_not_mailed(database: Database, settings: Settings) -> None:
    with pytest.raises(RuntimeError), database.transaction(Role.APP, workspace_id=1) as conn:
        mail.send_later(conn, database.envelope, 1, "ada@example.com", "s", "t")
        raise RuntimeError
    assert _rows(database) == []
    assert not mail.mail_configured(settings) and mail_handlers(settings, database) == {}


@pytest.mark.parametrize("address", ["", "ada", "a b@example.com", "a@b, c@d", "a@b\r\nBcc: c@d", "<a@b>"])
def test_addresses_that_cannot_be_written_to(database: Database, address: str) -> None:
    with pytest.raises(mail.InvalidAddress), database.transaction(Role.APP, workspace_id=1) as conn:
        mail.send_later(conn, database.envelope, 1, address, "s", "t")


def test_a_workspace_does_not_see_anothers_mail(database: Database) -> None:
    _send(database, "ada@example.com")
    with database.transaction(Role.APP, workspace_id=2) as conn:
        assert conn.execute(sa.text("SELECT count(*) FROM app.mails WHERE id IS NOT NULL")).scalar_one() == 0
    with database.transaction(Role.APP, workspace_id=1) as conn, pytest.raises(sa.exc.ProgrammingError):
        conn.execute(sa.text("SELECT sealed FROM app.mails"))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("smtp://mail.example.com", True), ("smtps://u:p%40@mail.example.com:465", True),
        ("smtp://localhost:2525?starttls=no", True), ("http://mail.example.com", False), ("smtp://", False),
        ("smtp://mail.example.com/path", False), ("smtp://mail.example.com?starttls=maybe", False),
        ("smtp://mail.example.com:port", False),
    ],
)  # fmt: skip
def test_the_servers_address_is_checked_at_start(url: str, good: bool) -> None:
    if good:
        assert load_settings({"SLUICEWAY_SMTP_URL": url}).smtp_url == url
        assert "p%40" not in repr(mail.MailServer.of(url))
        return
    with pytest.raises(WrongSetting, match="SLUICEWAY_SMTP_URL") as caught:
        load_settings({"SLUICEWAY_SMTP_URL": url})
    assert "mail.example.com" not in str(caught.value)


def test_tls_is_asked_for_unless_it_is_turned_off() -> None:
    assert mail.MailServer.of("smtp://h").starttls and mail.MailServer.of("smtp://h").port == 587
    assert not mail.MailServer.of("smtp://h?starttls=no").starttls
    server = mail.MailServer.of("smtps://me:p%40ss@h")
    assert (server.secure, server.starttls, server.port, server.password) == (True, False, 465, "p@ss")
