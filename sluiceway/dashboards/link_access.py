"""What a browser shows once a link was opened: a signed text that stands for the link for some hours.

It keeps the link's own token, and the password, out of every request but the first. Whether the link still
works is asked of the database again and again: the text alone proves nothing but that it was opened. Pure.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sluiceway.dashboards.errors import LinkAccessEnded
from sluiceway.infra.keys import SecretKey
from sluiceway.kit.signed import NotSigned, sign, verify

PREFIX = "sla_"
LIFETIME = timedelta(hours=12)
_PURPOSE = "link-access"


@dataclass(frozen=True, slots=True)
class LinkAccess:
    """For which link, and until when."""

    workspace_id: int
    link_id: UUID
    expires_at: datetime


def issue(
    key: SecretKey, workspace_id: int, link_id: UUID, *, now: datetime, ends: datetime | None
) -> tuple[str, LinkAccess]:
    """The text and what it says. `ends`: when the link itself does; None: it does not."""
    expires_at = now + LIFETIME if ends is None else min(now + LIFETIME, ends)
    access = LinkAccess(workspace_id, link_id, expires_at.replace(microsecond=0))
    payload = {"w": workspace_id, "l": str(link_id), "e": int(access.expires_at.timestamp())}
    return sign(key.derive(_PURPOSE), PREFIX, payload), access


def read(key: SecretKey, text: str, now: datetime) -> LinkAccess:
    """Raises `LinkAccessEnded` for a text that is over, or none of this installation's."""
    try:
        found = verify(key.derive(_PURPOSE), PREFIX, text)
    except NotSigned:
        raise LinkAccessEnded("This is not what opening a link gives: open the link.") from None
    access = LinkAccess(found["w"], UUID(found["l"]), datetime.fromtimestamp(found["e"], UTC))
    if access.expires_at <= now:
        raise LinkAccessEnded("The link was opened too long ago: open it again.")
    return access
