"""The words and the address of an invitation, and the mail with them."""

from uuid import UUID

import sqlalchemy as sa

from sluiceway.identity.invitations import Invitation, note_mail
from sluiceway.infra.envelope import Envelope
from sluiceway.infra.mail import mail_configured, send_later
from sluiceway.infra.settings import Settings


def link_of(settings: Settings, token: str) -> str:
    """The address that the invited person opens."""
    return f"{settings.public_url}/invitation/{token}"


def mail_invitation(
    conn: sa.Connection,
    envelope: Envelope,
    settings: Settings,
    workspace_id: int,
    invitation: Invitation,
    token: str,
) -> UUID | None:
    """Have the link mailed after the commit; returns the mail's id, None where no mail is set up.

    Where there is no mail, whoever invites has to be shown the link.
    """
    if not mail_configured(settings):
        return None
    row = conn.execute(sa.text("SELECT name FROM app.workspaces WHERE id = :id"), {"id": workspace_id}).one()
    by = f"{invitation.inviter} asks you" if invitation.inviter else "You are asked"
    text = (
        f"{by} to join the workspace {row.name} on Sluiceway, as {invitation.role}.\n\n"
        f"To accept, open this address:\n\n{link_of(settings, token)}\n\n"
        f"It works once, until {invitation.expires_at:%d %B %Y, %H:%M} UTC. If you did not expect this,"
        " leave it: nothing happens then.\n"
    )
    mail_id = send_later(
        conn, envelope, workspace_id, invitation.email, f"Join {row.name} on Sluiceway", text
    )
    note_mail(conn, workspace_id, invitation.id, mail_id)
    return mail_id
