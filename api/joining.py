"""Accepting an invitation, for the JSON route and for the page alike.

Whoever has an account joins with it, signed in; whoever has none makes one with the link, which proves the
address. Not here: invitations themselves (`sluiceway.identity.invitations`).
"""

from starlette.requests import Request

from api.auditing import note
from api.deps import person_id
from api.proving import Proven, SignedIn, begin_session
from api.services import ApiServices
from sluiceway.audit.actions import Action
from sluiceway.identity import accepting, service
from sluiceway.identity.accepting import Offer
from sluiceway.identity.contracts import Caller, User
from sluiceway.infra.database import Role


def find_offer(services: ApiServices, token: str) -> tuple[Offer, bool]:
    """What the link offers, and whether somebody with the address has an account. Raises `InvitationGone`."""
    with services.database.transaction(Role.APP) as conn:
        offer = accepting.find_offer(conn, token, now=services.clock.now())
        return offer, service.find_user(conn, offer.email) is not None


def join(request: Request, services: ApiServices, caller: Caller, offer: Offer) -> None:
    """Make the caller, a person, a member of the workspace that asks them.

    Raises `InvitedSomeoneElse`, `InvitationGone`, `AlreadyMember` or `SeatsExceeded`.
    """
    now = services.clock.now()
    with services.database.transaction(
        Role.APP, workspace_id=offer.workspace_id, user_id=str(caller.user_id)
    ) as conn:
        user = service.get_user(conn, person_id(caller))
        accepting.accept(conn, offer, user, now=now)
        note(
            request, conn, caller, Action.MEMBER_JOINED, target="member", target_id=user.id,
            after={"email": user.email, "role": offer.role}, detail={"invitation": offer.id, "new": False},
        )  # fmt: skip


def join_anew(request: Request, services: ApiServices, offer: Offer, name: str, password: str) -> SignedIn:
    """Make the account and the membership, and begin a session there.

    Raises `InvalidPerson`, `EmailTaken`, `InvitationGone` or `SeatsExceeded`.
    """
    now = services.clock.now()
    service.check_person(offer.email, name, password)
    with services.database.transaction(Role.APP, workspace_id=offer.workspace_id) as conn:
        user = service.add_person(conn, offer.email, name, password)
        service.act_for(conn, user.id)
        accepting.accept(conn, offer, user, now=now)
        note(
            request, conn, _caller(user, offer), Action.MEMBER_JOINED, target="member", target_id=user.id,
            after={"email": user.email, "role": offer.role}, detail={"invitation": offer.id, "new": True},
        )  # fmt: skip
    return begin_session(request, services, Proven(user.id, "invitation", rooms=(offer.workspace_id,)))


def _caller(user: User, offer: Offer) -> Caller:
    """Whom the audit log names: somebody who holds nothing yet."""
    return Caller(f"user:{user.id}", offer.workspace_id, user.name, frozenset(), user.id, user.email)
