"""Forgotten passwords, for programs; the pages are `/forgot` and `/reset`."""

from fastapi import APIRouter, BackgroundTasks, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import resets
from api.deps import Services
from api.errors import problem_responses
from api.security import check_same_origin

router = APIRouter(prefix="/v1/password-resets", tags=["session"])


class Forgotten(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"email": "ada@example.com"}})

    email: str = Field(min_length=1, max_length=300)


class Reset(BaseModel):
    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=100, description="As the link holds it.")
    password: str = Field(min_length=1, max_length=1000)


@router.post(
    "",
    status_code=202,
    response_class=Response,
    summary="Ask for a link to set a password",
    responses=problem_responses((403, 409, 429)),
)
def ask_for_reset(
    request: Request, services: Services, body: Forgotten, background: BackgroundTasks
) -> Response:
    """The answer is the same whether anybody has the address."""
    check_same_origin(request, services.settings.public_url)
    resets.ask(request, services)
    background.add_task(resets.send, request, services, body.email)
    return Response(status_code=202)


@router.put(
    "",
    status_code=204,
    response_class=Response,
    summary="Set a forgotten password",
    responses=problem_responses((403, 404)),
)
def use_reset(request: Request, services: Services, body: Reset) -> None:
    """With the link's token, once. All sessions of the person end; a second factor stays."""
    check_same_origin(request, services.settings.public_url)
    resets.use(request, services, body.token, body.password)
