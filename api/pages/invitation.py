"""What the page that an invitation's link leads to says, to whoever opened it.

Belongs here: its HTML, with every value from outside escaped. Not here: what joining does (`api.joining`).
"""

from html import escape
from urllib.parse import quote

from api.pages.forms import GOOD_PASSWORDS, alert, invalid, username, with_next
from sluiceway.identity.accepting import Offer
from sluiceway.identity.contracts import Caller
from sluiceway.kit.errors import SluicewayError


def address(token: str) -> str:
    return f"/invitation/{quote(token, safe='')}"


def sign_in_address(token: str) -> str:
    """Where somebody who has an account goes first; it leads back."""
    return with_next("/sign-in", f"/invitation/{token}")


def offered(
    token: str,
    offer: Offer,
    who: Caller | None,
    *,
    known: bool,
    error: SluicewayError | None = None,
    name: str = "",
) -> str:
    """The offer, what went wrong, and the form that fits whoever is looking.

    `known`: the address that was invited has an account.
    """
    by = f"{offer.inviter} asks you to join" if offer.inviter else "You are asked to join"
    head = (
        f'<h1>{escape(offer.workspace)}</h1><p class="lead">{escape(by)} this workspace of'
        f" {escape(offer.organization)} as <strong>{escape(offer.role)}</strong>. The invitation is for"
        f" <strong>{escape(offer.email)}</strong>.</p>"
    )
    if who is not None and (who.email or "").lower() != offer.email.lower():
        return (
            f'{head}<p class="alert" role="alert">You are signed in as {escape(who.email or who.name)},'
            " who was not asked. Sign out first, then open the link again.</p>"
            '<div class="row on"><a class="button quiet" href="/">Stay</a>'
            '<a class="button" href="/sign-out">Sign out</a></div>'
        )
    head += alert(error)
    action = escape(address(token))
    if who is not None:
        return (
            f'{head}<form method="post" action="{action}"><div class="row">'
            '<a class="button quiet" href="/">Not now</a>'
            '<button class="button">Join</button></div></form>'
        )
    if known:
        return (
            f'{head}<p class="on"><a class="button" href="{escape(sign_in_address(token))}">'
            'Sign in to join</a></p><p class="hint">You have an account already.</p>'
        )
    return f"{head}{_new_account(action, offer.email, name, error)}"


def gone(title: str, detail: str) -> str:
    return (
        f'<h1>{escape(title)}</h1><p class="lead">{escape(detail)}</p>'
        '<p class="on"><a class="button" href="/sign-in">Sign in</a></p>'
        '<p class="hint">Whoever invited you can send another one.</p>'
    )


def _new_account(action: str, email: str, name: str, error: SluicewayError | None) -> str:
    return (
        f'<form method="post" action="{action}">'
        '<label>Your name<input name="name" autocomplete="name" required maxlength="120" autofocus'
        f' value="{escape(name)}"></label>{username(email)}'
        '<label>A password<input type="password" name="password" autocomplete="new-password" required'
        f' minlength="10" maxlength="1000"{invalid(error)}></label>'
        f'<button class="button">Join</button></form><p class="hint">{GOOD_PASSWORDS}</p>'
    )
