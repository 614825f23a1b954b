"""What is shown to somebody who has signed out here and goes on to sign out at their identity provider."""

from html import escape


def on_to_provider(name: str, address: str) -> str:
    """The browser goes there by itself; the link is for those that do not."""
    return (
        "<h1>You are signed out</h1>"
        f'<p class="lead">You are being signed out at {escape(name)}, too.</p>'
        f'<p class="on"><a class="button" href="{escape(address)}">Go on</a></p>'
    )
