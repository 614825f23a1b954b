"""The one place where errors become problem details (RFC 9457).

Every error answers `application/problem+json` with a stable `code`; what was not expected says nothing of
its cause but the request id under which the log has it. Not here: the event route, which has no FastAPI
(it shares the document's shape through `api.problems`).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import psycopg
import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from api import error_pages
from api.error_pages import error_page, wants_page
from api.problems import MEDIA_TYPE, problem_document
from api.scim.errors import MEDIA_TYPE as SCIM_TYPE
from api.scim.errors import is_scim, scim_error
from sluiceway.identity.errors import ConfirmationRequired
from sluiceway.infra.database_errors import is_away, is_refused
from sluiceway.kit.errors import (
    BadRequest,
    FieldError,
    InvalidInput,
    NotFound,
    SluicewayError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger("sluiceway.api")
RETRY_UNAVAILABLE_S = 2


class MethodNotAllowed(SluicewayError):
    code = "method_not_allowed"
    status = 405
    title = "This method is not offered here"
    allowed: str = ""


class NotAcceptable(SluicewayError):
    code = "not_acceptable"
    status = 406
    title = "No answer in a media type that was asked for"


class ProblemField(BaseModel):
    """One thing wrong with one field of the input."""

    field: str = Field(description="Dotted path of the field.", examples=["measures.0.agg"])
    message: str
    line: int | None = Field(default=None, description="Line in the text that was sent, from 1.")


class Problem(BaseModel):
    """An error as problem details (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:sluiceway:problem:pipeline_not_found"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable: programs may compare it.", examples=["pipeline_not_found"])
    retryable: bool = Field(description="Whether the same request can succeed later.")
    request_id: str | None = Field(default=None, description="Also in the header X-Request-Id.")
    errors: list[ProblemField] | None = None


_BY_STATUS: dict[int, type[SluicewayError]] = {
    400: BadRequest,
    401: Unauthenticated,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    413: TooLarge,
    415: UnsupportedMedia,
    422: InvalidInput,
    429: TooManyRequests,
    503: Unavailable,
}


def problem_responses(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """What a route declares in OpenAPI for the errors it can answer with."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def problem_response(request: Request, error: SluicewayError) -> Response:
    """The answer for an expected error: problem details, or a page where a person waits for one."""
    request_id = getattr(request.state, "request_id", None)
    body, headers = problem_document(error, request_id=request_id)
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.allowed
    if is_scim(request.url.path):
        document, status = scim_error(error)
        return Response(document, status, headers, SCIM_TYPE)
    if wants_page(request.method, request.url.path, request.headers):
        if isinstance(error, ConfirmationRequired):
            return RedirectResponse("/confirm?next=/account", 303, {"Cache-Control": "no-store"})
        html = error_page(error, request_id)
        return Response(html, error.status, headers, error_pages.MEDIA_TYPE)
    return Response(body, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Make the application answer every error as problem details."""

    async def expected(request: Request, error: Exception) -> Response:
        assert isinstance(error, SluicewayError)
        return problem_response(request, error)

    async def by_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return problem_response(request, _from_http(request, error))

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(request, _from_validation(error.errors()))

    async def database(request: Request, error: Exception) -> Response:
        return problem_response(request, _from_database(request, error))

    async def text(request: Request, error: Exception) -> Response:
        return problem_response(request, InvalidInput("The input holds text that is not valid Unicode."))

    async def unexpected(request: Request, error: Exception) -> Response:
        return problem_response(request, _unexpected(request))

    app.add_exception_handler(SluicewayError, expected)
    app.add_exception_handler(HTTPException, by_status)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(sa.exc.SQLAlchemyError, database)
    app.add_exception_handler(psycopg.Error, database)
    app.add_exception_handler(UnicodeEncodeError, text)
    app.add_exception_handler(Exception, unexpected)


def _from_http(request: Request, error: HTTPException) -> SluicewayError:
    kind = _BY_STATUS.get(error.status_code)
    if kind is NotFound:
        return NotFound(f"There is nothing at {request.url.path}.")
    if kind is MethodNotAllowed:
        allowed = (error.headers or {}).get("Allow", "")
        found = MethodNotAllowed(f"{request.method} is not offered here; offered: {allowed or 'nothing'}.")
        found.allowed = allowed
        return found
    if kind is not None:
        return kind(str(error.detail))
    if error.status_code < 500:
        return BadRequest(str(error.detail))
    return _unexpected(request)


def _from_validation(errors: Sequence[Mapping[str, Any]]) -> SluicewayError:
    if any(e["type"] == "json_invalid" for e in errors):
        where = errors[0].get("ctx", {}).get("error", "")
        return BadRequest(f"The body is not JSON: {where}.")
    fields = [_field(e) for e in errors]
    detail = "; ".join(f"{f.field or 'the body'}: {f.message}" for f in fields[:5])
    return InvalidInput(detail + ".", errors=fields)


def _field(error: Mapping[str, Any]) -> FieldError:
    # The first part says where it was looked for (body, query, path): kept unless it is the body.
    where = list(error["loc"])
    if where and where[0] == "body":
        where = where[1:]
    message = str(error["msg"]).removeprefix("Value error, ")
    return FieldError(".".join(str(part) for part in where), message[:1].lower() + message[1:])


def _from_database(request: Request, error: Exception) -> SluicewayError:
    """What PostgreSQL said, as far as a caller may know: input it cannot hold, or that it is away."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(cause, psycopg.errors.QueryCanceled):
        return Unavailable("The database took too long; ask for less.", retry_after_s=RETRY_UNAVAILABLE_S)
    if is_refused(error):
        return InvalidInput("A value cannot be kept: a NUL character, a number out of range, or too much.")
    if is_away(error):
        log.warning("database away: %s (request %s)", type(cause).__name__, _request_id(request))
        return Unavailable("The database does not answer.", retry_after_s=RETRY_UNAVAILABLE_S)
    log.error("request %s failed", _request_id(request), exc_info=error)
    return _unexpected(request)


def _unexpected(request: Request) -> SluicewayError:
    return SluicewayError(f"Something went wrong; the log has it as request {_request_id(request)}.")


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", "unknown"))
