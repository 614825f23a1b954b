"""The pages of one's own account as answers: in the colours that the person prefers, kept by no cache.

Belongs here: putting a content into its frame. Not here: what a page says (`api.pages`), what its forms do
(`api.routes`).
"""

from fastapi.responses import HTMLResponse

from api.deps import catalog, person_id
from api.pages import shell
from api.services import ApiServices
from sluiceway.identity.contracts import Caller
from sluiceway.identity.preferences import get_preferences
from sluiceway.kit.errors import SluicewayError


def own_page(
    services: ApiServices,
    who: Caller,
    title: str,
    content: str,
    error: SluicewayError | None = None,
    *,
    here: str = "/account",
) -> HTMLResponse:
    """With the error's status, if something was wrong. `here`: which of `shell.ACCOUNT` it belongs to."""
    with catalog(services, who) as conn:
        theme = get_preferences(conn, who.workspace_id, person_id(who)).theme
    text = shell.account(title, content, who.email or who.name, here=here, theme=theme)
    return HTMLResponse(text, 200 if error is None else error.status, {"Cache-Control": "no-store"})
