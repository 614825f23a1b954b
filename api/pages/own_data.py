"""What the page about one's own data says: taking it away, deleting the account.

Belongs here: its HTML, with every value from outside escaped. Not here: what its form does
(`api.routes.own_data_pages`).
"""

from html import escape

from api.pages.forms import alert, invalid
from sluiceway.kit.errors import SluicewayError


def overview(email: str, error: SluicewayError | None = None) -> str:
    """The whole page."""
    return (
        '<h1>Your data</h1><p class="lead">What is kept about you, and how to end it.</p>'
        f"{alert(error)}"
        '<section class="panel"><h2>Take it away</h2>'
        "<p>Your account, memberships, sessions, second factors, preferences, and what the audit log says of"
        " you, from every workspace, as one JSON file. No password and no key is in it.</p>"
        '<p><a class="button quiet" href="/v1/me/export" download>Download</a></p></section>'
        '<section class="panel"><h2>Delete the account</h2>'
        "<p>For good, in every workspace. Pipelines, dashboards and keys that you made stay, with the owner"
        " who has been there longest. The audit log keeps what was done, without your name and address.</p>"
        '<form method="post" action="/account/data/deletion"><div class="adding">'
        f"<label>Type your address, {escape(email)}, if you mean it"
        '<input name="email" type="email" autocomplete="off" spellcheck="false" required maxlength="300"'
        f'{invalid(error)}></label><button class="button danger">Delete for good</button></div></form>'
        "</section>"
    )
