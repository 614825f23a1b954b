"""What people are called goes into mails as text: no HTML, no header, no recipient of theirs.

Sent as they are: asked for over the API, delivered by the worker's own handlers to a mail server.
"""

from dataclasses import replace
from typing import Any

import pytest

from api.app import create_app
from sluiceway.infra import outbox
from sluiceway.runtime.processes.worker import mail_handlers
from tests.support.attacks import SCRIPTS
from tests.support.callers import Tried
from tests.support.inbox import running_inbox

ENDS = (
    "A\r\nBcc: eve@example.com",
    "A\nSubject: planted",
    "A\r\n\r\n<html><script>window.xss=1</script>",
    "A\u2028Bcc: eve@example.com",
    "=?utf-8?q?A=0D=0ABcc:_eve@example.com?=",  # what a mail's headers are decoded from
    "=?utf-8?b?QQ0KDQo8c2NyaXB0Pg==?=",
    "A =?us-ascii?q?=0AB?= C",
    "A\x00B",
)
HEADERS = {
    "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
    "Content-Transfer-Encoding", "MIME-Version",
}  # fmt: skip


def test_names_in_mails_are_text(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tried = Tried("texts in mails")
    with running_inbox() as (inbox, port):
        settings = replace(world.services.settings, smtp_url=f"smtp://127.0.0.1:{port}?starttls=no")
        world.services.settings = settings
        world.app = create_app(world.services)
        owner = world.person("owner")
        expected = []
        for number, text in enumerate((*SCRIPTS, *ENDS)):
            name = text[:70]
            refused = [
                answer.status_code
                for answer in (
                    owner.patch("/v1/workspaces/1", json={"name": name}),
                    owner.patch("/v1/me", json={"name": name}),
                    owner.post("/v1/roles", json={"name": name[:60], "permissions": ["data:read"]}),
                )
                if answer.status_code >= 400
            ]
            assert set(refused) <= {409, 422}, refused
            guest = f"guest{number}@example.com"
            assert owner.post("/v1/invitations", json={"email": guest}).status_code == 201
            asked = world.client(address=f"198.51.100.{number}").post(
                "/v1/password-resets", json={"email": "owner1@example.com"}
            )
            assert asked.status_code == 202
            expected += [guest]
            tried.attempts["an administrator"] += 5 - len(refused)
        worker = outbox.OutboxWorker(
            world.services.database, "test", mail_handlers(settings, world.services.database)
        )
        while worker.work():
            pass
        to = [address for recipients, _ in inbox.messages for address in recipients]
        assert {a for a in to if a.startswith("guest")} == set(expected) and "owner1@example.com" in to
        for recipients, message in inbox.messages:
            assert len(recipients) == 1 and message["To"] == recipients[0]
            assert message.get_content_type() == "text/plain" and not message.is_multipart()
            assert set(message.keys()) == HEADERS and len(message.keys()) == len(HEADERS)
            assert not any(c in str(message["Subject"]) for c in "\r\n\x00\u2028")
    tried.tell(capsys)
