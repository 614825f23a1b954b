"""Pieces of the forms that people sign in with. Every value that came from outside is escaped here.

Not here: the frame around them (`shell`), which form is shown when (`api.routes`).
"""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote
from uuid import UUID

from sluiceway.kit.errors import SluicewayError

GOOD_PASSWORDS = (
    "At least 10 characters. Three or four words that do not belong together are easy to keep in mind and"
    " hard to guess."
)


def sign_in(
    target: str,
    providers: Sequence[tuple[UUID, str]],
    *,
    email: str = "",
    remember: bool = False,
    error: SluicewayError | None = None,
) -> str:
    """E-mail and password; below them a passkey, and every identity provider."""
    focus_email, focus_password = ("", " autofocus") if email else (" autofocus", "")
    return (
        '<h1>Sign in</h1><p class="lead">to your workspace</p>'
        f"{alert(error)}"
        f'<form method="post" action="{escape(with_next("/sign-in", target))}">'
        f'<input type="hidden" name="next" value="{escape(target)}">'
        '<label>E-mail<input type="email" name="email" autocomplete="username" inputmode="email"'
        ' spellcheck="false" autocapitalize="none" required maxlength="300"'
        f' value="{escape(email)}"{invalid(error)}{focus_email}></label>'
        '<label>Password<input type="password" name="password" autocomplete="current-password" required'
        f' maxlength="1000"{invalid(error)}{focus_password}></label>'
        '<div class="between"><label class="check"><input type="checkbox" name="remember" value="1"'
        f'{" checked" if remember else ""}>Remember me</label><a href="/forgot">Forgot it?</a></div>'
        '<button class="button">Sign in</button></form>'
        f"{_other_ways(target, providers)}"
        '<p class="hint">No account yet? The owner of your workspace can invite you.</p>'
    )


def second_factor(step: str, methods: Sequence[str], target: str, error: SluicewayError | None = None) -> str:
    """What is asked for after a right password: a code, a recovery code, or a passkey."""
    parts = ["<h1>One more step</h1>"]
    if "totp" in methods:
        parts.append(
            '<p class="lead">Type the code that your authenticator app shows.</p>'
            f"{alert(error)}"
            f'<form method="post" action="{escape(with_next("/sign-in/code", target))}">'
            f'<input type="hidden" name="next" value="{escape(target)}">'
            '<label>Code<input class="code" name="code" autocomplete="one-time-code" inputmode="text"'
            ' spellcheck="false" autocapitalize="none" required maxlength="40" autofocus'
            f'{invalid(error)} aria-describedby="code-hint"></label>'
            '<button class="button">Go on</button></form>'
            '<p class="hint" id="code-hint">No phone at hand? One of your recovery codes works, too.</p>'
        )
    else:
        parts.append(
            f'<p class="lead">Show one of your passkeys.</p>{alert(error)}'
            '<noscript><p class="alert">A passkey needs JavaScript: allow it for this page.</p></noscript>'
        )
    if "passkey" in methods:
        quiet = " quiet" if "totp" in methods else ""
        parts.append(
            f'<p class="ways"><button type="button" class="button{quiet}" data-passkey="second"'
            f' data-step="{escape(step)}" data-next="{escape(target)}" hidden>Use a passkey</button></p>'
        )
    parts.append('<p class="hint"><a href="/sign-in">Sign in as somebody else</a></p>')
    return "".join(parts)


def confirm(
    email: str,
    target: str,
    *,
    password: bool,
    code: bool,
    passkey: bool,
    providers: Sequence[tuple[UUID, str]],
    error: SluicewayError | None = None,
) -> str:
    """Asks the person who is signed in to prove it, in any of the ways that they have."""
    parts = [
        "<h1>Is it still you?</h1>"
        f'<p class="lead">What comes next changes how {escape(email)} signs in, or what others may do.'
        " Confirm it once; for ten minutes you are not asked again.</p>"
        f"{alert(error)}"
    ]
    action = escape(with_next("/confirm", target))
    hidden = f'<input type="hidden" name="next" value="{escape(target)}">'
    if password:
        parts.append(
            f'<form method="post" action="{action}">{hidden}'
            f"{username(email)}"
            '<label>Password<input type="password" name="password" autocomplete="current-password" required'
            f' maxlength="1000" autofocus{invalid(error)}></label>'
            '<button class="button">Confirm</button></form>'
        )
    if code:
        quiet = " quiet" if password else ""
        parts.append(
            f'{_or() if password else ""}<form method="post" action="{action}">{hidden}'
            '<label>Code of your authenticator app<input class="code" name="code"'
            ' autocomplete="one-time-code" spellcheck="false" autocapitalize="none" required maxlength="40">'
            f'</label><button class="button{quiet}">Confirm with the code</button></form>'
        )
    ways = [
        f'<a class="button quiet" href="/confirm/provider/{provider_id}?next={quote(target, safe="/")}">'
        f"Continue with {escape(name)}</a>"
        for provider_id, name in providers
    ]
    if passkey:
        ways.insert(
            0,
            '<button type="button" class="button quiet" data-passkey="confirm"'
            f' data-next="{escape(target)}" hidden>Use a passkey</button>',
        )
    if ways:
        parts.append(f'<p class="ways">{"".join(ways)}</p>')
    parts.append(f'<p class="hint"><a href="{escape(target)}">Back, without confirming</a></p>')
    return "".join(parts)


def confirmed() -> str:
    """The end of a confirmation that another tab waits for."""
    return (
        '<h1>It is you</h1><p class="lead">For ten minutes you are not asked again. Go back to where you came'
        " from, and do it once more.</p>"
        '<p class="on"><a class="button quiet" href="/">To the start page</a></p>'
    )


def forgot(error: SluicewayError | None = None, email: str = "") -> str:
    """Asks for the address to which a link is mailed."""
    return (
        "<h1>Set a new password</h1>"
        '<p class="lead">Type your address, and a link comes by mail.</p>'
        f"{alert(error)}"
        '<form method="post" action="/forgot">'
        '<label>E-mail<input type="email" name="email" autocomplete="username" inputmode="email"'
        f' spellcheck="false" autocapitalize="none" required maxlength="300" value="{escape(email)}"'
        ' autofocus></label><button class="button">Send the link</button></form>'
        '<p class="hint"><a href="/sign-in">Back to signing in</a></p>'
    )


def no_mail() -> str:
    return (
        "<h1>Set a new password</h1>"
        '<p class="lead">This installation cannot send mail yet. Whoever runs it can make a link for you,'
        " with <code>sluiceway user reset-link</code>.</p>"
        '<p class="on"><a class="button" href="/sign-in">Back to signing in</a></p>'
    )


def sent(email: str) -> str:
    """Says the same whether anybody has the address."""
    return (
        "<h1>Look at your mail</h1>"
        f'<p class="lead">If {escape(email)} has an account here, a link is on its way. It is good for an'
        " hour, and once.</p>"
        '<p class="on"><a class="button" href="/sign-in">Back to signing in</a></p>'
        '<p class="hint">Nothing came? Look among unwanted mail, or <a href="/forgot">ask again</a>.</p>'
    )


def new_password(email: str, error: SluicewayError | None = None) -> str:
    """Asks for the password that replaces the forgotten one."""
    return (
        f'<h1>Set a new password</h1><p class="lead">for {escape(email)}</p>{alert(error)}'
        '<form method="post" action="/reset">'
        f"{username(email)}"
        '<label>New password<input type="password" name="password" autocomplete="new-password" required'
        f' minlength="10" maxlength="1000" autofocus{invalid(error)}></label>'
        '<button class="button">Set it and sign in</button></form>'
        f'<p class="hint">{GOOD_PASSWORDS} You are signed out everywhere else.</p>'
    )


def link_gone() -> str:
    return (
        "<h1>This link is over</h1>"
        '<p class="lead">It was used already, or is older than an hour.</p>'
        '<p class="on"><a class="button" href="/forgot">Ask for a new one</a></p>'
    )


def refused(title: str, detail: str) -> str:
    """An end that the person can only walk away from."""
    return (
        f'<h1>{escape(title)}</h1><p class="lead">{escape(detail)}</p>'
        '<p class="on"><a class="button" href="/sign-in">Back to signing in</a></p>'
    )


def sign_out(who: str) -> str:
    return (
        "<h1>Sign out?</h1>"
        f'<p class="lead">You are signed in as {escape(who)}.</p>'
        '<form method="post" action="/sign-out"><div class="row">'
        '<a class="button quiet" href="/">Stay</a>'
        '<button class="button">Sign out</button></div></form>'
    )


def username(email: str) -> str:
    """For password managers: whose password the form is about. Nobody sees or reaches it."""
    return (
        f'<input class="unseen" type="text" name="email" autocomplete="username" value="{escape(email)}"'
        ' readonly tabindex="-1" aria-hidden="true">'
    )


def alert(error: SluicewayError | None) -> str:
    """What was wrong, above the form; empty, and hidden, for the script to fill."""
    if error is None:
        return '<p class="alert" id="wrong" role="alert" hidden></p>'
    return f'<p class="alert" id="wrong" role="alert">{escape(error.detail)}</p>'


def invalid(error: SluicewayError | None) -> str:
    return "" if error is None else ' aria-describedby="wrong" aria-invalid="true"'


def with_next(path: str, target: str) -> str:
    return path if target == "/" else f"{path}?next={quote(target, safe='/')}"


def _other_ways(target: str, providers: Sequence[tuple[UUID, str]]) -> str:
    links = "".join(
        f'<a class="button quiet" href="{escape(with_next(f"/sign-in/provider/{provider_id}", target))}">'
        f"Continue with {escape(name)}</a>"
        for provider_id, name in providers
    )
    divider = _or() if providers else '<div class="or" data-with-passkey hidden><span>or</span></div>'
    return (
        f'{divider}<p class="ways"><button type="button" class="button quiet" data-passkey="sign-in"'
        f' data-next="{escape(target)}" hidden>Use a passkey</button>{links}</p>'
    )


def _or() -> str:
    return '<div class="or"><span>or</span></div>'
