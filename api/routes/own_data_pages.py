"""`/account/data`: one's own data, as a page without JavaScript. The same by JSON: `api.routes.privacy`."""

from typing import Annotated

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from api.deps import Services
from api.errors import problem_responses
from api.own_pages import own_page
from api.pages import forms, own_data
from api.routes.account_pages import ConfirmedForm
from api.routes.privacy import delete_account
from api.routes.sign_in_pages import SignedIn, to
from sluiceway.identity.contracts import Caller
from sluiceway.identity.errors import InvalidPerson, LastOwner
from sluiceway.kit.errors import SluicewayError

router = APIRouter(tags=["me"], include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/account/data")
def data_page(services: Services, who: SignedIn) -> Response:
    """What is kept, to take away or to end."""
    return to(forms.with_next("/sign-in", "/account/data")) if who is None else _page(services, who)


@router.post("/account/data/deletion", responses=problem_responses((401, 403)))
def deletion_form(
    services: Services, who: ConfirmedForm, email: Annotated[str, Form(max_length=300)] = ""
) -> Response:
    """Delete the account; afterwards nobody is signed in."""
    response = to("/sign-in")
    try:
        delete_account(services, who, email, response)
    except (InvalidPerson, LastOwner) as error:
        return _page(services, who, error)
    return response


def _page(services: Services, who: Caller, error: SluicewayError | None = None) -> Response:
    content = own_data.overview(who.email or who.name, error)
    return own_page(services, who, "Your data", content, error, here="/account/data")
