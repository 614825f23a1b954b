"""What the page about one's own sign-in says: password, authenticator app, passkeys, sessions.

Belongs here: its HTML, with every value from outside escaped. Not here: what its forms do
(`api.routes.account_pages`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape

from api.own_sign_in import SignInState
from api.pages.forms import alert, invalid, username
from sluiceway.identity.factors import RECOVERY_CODES, Enrolment
from sluiceway.identity.passkeys import Passkey
from sluiceway.identity.sessions import Session
from sluiceway.kit.devices import device
from sluiceway.kit.errors import SluicewayError

_METHODS = {
    "password": "password",
    "passkey": "passkey",
    "provider": "identity provider",
    "invitation": "invitation",
    "reset": "new password",
}


def overview(
    state: SignInState,
    sessions: Sequence[Session],
    *,
    email: str,
    missing: bool,
    now: datetime,
    done: str = "",
    error: SluicewayError | None = None,
) -> str:
    """The whole page. `missing`: the workspace asks for a second factor, and this session has shown none."""
    said = f'<p class="done" role="status">{escape(done)}</p>' if done else ""
    asked = (
        '<p class="notice" role="status"><strong>Your workspace asks for a second factor.</strong>'
        " Set up an authenticator app or a passkey below to go on.</p>"
        if missing
        else ""
    )
    return (
        '<h1>Signing in</h1><p class="lead">How you prove that you are you, and where you have done so.</p>'
        f"{asked}{said}{alert(error)}"
        f"{_app(state, now)}{_passkeys(state.passkeys, now)}{_password(state, email, now)}"
        f"{_providers(state.providers)}{_sessions(sessions, now)}"
    )


def new_app(made: Enrolment, qr: str, error: SluicewayError | None = None) -> str:
    """The QR code, and the field for the first code."""
    secret = " ".join(made.secret[i : i + 4] for i in range(0, len(made.secret), 4))
    return (
        '<h1>Set up an authenticator app</h1><p class="lead">Any app for one-time codes will do: the one of'
        " your password manager, Aegis, Google or Microsoft Authenticator.</p>"
        f'{alert(error)}<ol class="steps"><li><h2>Scan this with the app</h2>'
        f'<div class="scan"><div class="qrbox" role="img" aria-label="QR code for the app">{qr}</div>'
        '<p class="aside">Cannot scan? Type this key into the app:'
        f'<code class="key">{escape(secret)}</code></p></div></li>'
        "<li><h2>Type the code that it shows</h2>"
        '<form method="post" action="/account/app">'
        f'<input type="hidden" name="step" value="{escape(made.step)}">'
        '<label>Code<input class="code" name="code" autocomplete="one-time-code" inputmode="numeric"'
        f' required maxlength="20" autofocus{invalid(error)}></label>'
        '<div class="row tight"><button class="button">Take it into use</button>'
        '<a class="button quiet" href="/account">Not now</a></div></form></li></ol>'
    )


def recovery_codes(codes: Sequence[str]) -> str:
    """The codes, this once."""
    items = "".join(f"<li><code>{escape(code)}</code></li>" for code in codes)
    return (
        '<h1>Keep these recovery codes</h1><p class="lead">Each signs you in once if your phone is not at'
        " hand. They are not shown again: print them, or put them into a password manager.</p>"
        f'<ul class="codes">{items}</ul>'
        '<p class="on"><a class="button" href="/account">I have kept them</a></p>'
    )


def _app(state: SignInState, now: datetime) -> str:
    since = state.factors.totp_since
    if since is None:
        body = (
            "<p>A code from your phone besides the password: the password alone lets nobody in.</p>"
            f"{_button('/account/app/new', 'Set up an app', quiet=False)}"
        )
    else:
        left = state.factors.recovery_left
        low = ' class="low"' if left <= 3 else ""
        body = (
            f"<p>In use {_ago(since, now)}. <span{low}>{left} of {RECOVERY_CODES} recovery codes are left."
            "</span></p>"
            f'<div class="acts">{_button("/account/recovery-codes", "New recovery codes")}'
            f"{_button('/account/app/new', 'Set up another app')}"
            f"{_button('/account/app/remove', 'Remove', danger=True)}</div>"
        )
    return _section("Authenticator app", body, on=since is not None)


def _passkeys(held: Sequence[Passkey], now: datetime) -> str:
    rows = "".join(
        f'<li><div><strong>{escape(key.name)}</strong><span class="meta">added {_ago(key.created_at, now)}, '
        f"{'used ' + _ago(key.last_used_at, now) if key.last_used_at else 'not used yet'}"
        f"{', synced' if key.synced else ''}</span></div>"
        f'<form method="post" action="/account/passkeys/{key.id}/remove"><button class="button small danger"'
        f' aria-label="Remove {escape(key.name)}">Remove</button></form></li>'
        for key in held
    )
    body = (
        "<p>Your finger, face or PIN instead of password and code. Nothing to type, and nothing that a false"
        " page could steal.</p>"
        f"{f'<ul class=list>{rows}</ul>' if rows else ''}"
        '<div class="adding" data-passkey-form><label>Name of the device'
        '<input name="passkey-name" maxlength="60" placeholder="Work laptop" autocomplete="off"></label>'
        '<button type="button" class="button" data-passkey="new" data-next="/account?done=passkey" hidden>'
        "Add a passkey</button></div>"
        "<noscript><p class=meta>Adding one needs JavaScript.</p></noscript>"
    )
    return _section("Passkeys", body, on=bool(held))


def _password(state: SignInState, email: str, now: datetime) -> str:
    if not state.has_password:
        said, verb = "You have none: you sign in another way.", "Set a password"
    elif state.password_set_at is None:
        said, verb = "Not changed since your account was made.", "Change it"
    else:
        said, verb = f"Changed {_ago(state.password_set_at, now)}.", "Change it"
    body = (
        f"<p>{said}</p>"
        f'<form method="post" action="/account/password" class="adding">{username(email)}'
        '<label>New password<input type="password" name="password" autocomplete="new-password" required'
        ' minlength="10" maxlength="1000"></label>'
        f'<button class="button quiet">{verb}</button></form>'
        '<p class="meta">At least 10 characters; three or four words that do not belong together. You are'
        " signed out everywhere else.</p>"
    )
    return _section("Password", body)


def _providers(names: Sequence[str]) -> str:
    if not names:
        return ""
    items = "".join(f"<li><div><strong>{escape(name)}</strong></div></li>" for name in names)
    return _section("Identity providers", f"<p>You are known by:</p><ul class=list>{items}</ul>", on=True)


def _sessions(found: Sequence[Session], now: datetime) -> str:
    rows = []
    for session in found:
        end = (
            '<span class="badge">this one</span>'
            if session.current
            else f'<form method="post" action="/account/sessions/{session.id}/end">'
            f'<button class="button small" aria-label="End {escape(device(session.user_agent))}">End</button>'
            "</form>"
        )
        ways = _METHODS.get(session.method, session.method)
        more = " and a second factor" if session.second_factor and session.method == "password" else ""
        rows.append(
            f"<li><div><strong>{escape(device(session.user_agent))}</strong>"
            f'<span class="meta">{escape(session.address or "unknown address")} · '
            f"{escape(session.workspace_name)} · seen {_ago(session.last_seen_at, now)} · "
            f"by {ways}{more}</span></div>{end}</li>"
        )
    others = (
        f'<div class="acts">{_button("/account/sessions/end", "Sign out everywhere else")}</div>'
        if len(found) > 1
        else ""
    )
    body = f'<ul class="list">{"".join(rows)}</ul>{others}'
    return _section("Where you are signed in", body)


def _section(title: str, body: str, on: bool | None = None) -> str:
    state = "" if on is None else f'<span class="badge{" good" if on else ""}">{"on" if on else "off"}</span>'
    return f'<section class="panel"><h2>{title}{state}</h2>{body}</section>'


def _button(path: str, label: str, *, quiet: bool = True, danger: bool = False) -> str:
    kind = " danger" if danger else " quiet" if quiet else ""
    return f'<form method="post" action="{path}"><button class="button{kind}">{label}</button></form>'


def _ago(at: datetime, now: datetime) -> str:
    """Time in words; the time itself is the element's."""
    gone = max(timedelta(0), now - at)
    if gone < timedelta(minutes=2):
        said = "just now"
    elif gone < timedelta(hours=2):
        said = f"{int(gone.total_seconds() // 60)} minutes ago"
    elif gone < timedelta(days=2):
        said = f"{int(gone.total_seconds() // 3600)} hours ago"
    elif gone < timedelta(days=60):
        said = f"{gone.days} days ago"
    else:
        said = f"on {at:%Y-%m-%d}"
    return f'<time datetime="{at.isoformat()}" title="{at:%Y-%m-%d %H:%M} UTC">{said}</time>'
