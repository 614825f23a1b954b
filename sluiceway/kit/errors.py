"""The shape of every error a user can meet: a stable code, an HTTP status, and whether a retry can help.

A slice's own errors derive from these classes in its `errors.py`; `api.errors` is the one place that
turns them into problem details (RFC 9457). Messages never carry a secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of an input.

    `field` is a dotted path (`fields.2.type`), `line` counts from 1 where the input was text.
    """

    field: str
    message: str
    line: int | None = None

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {"field": self.field, "message": self.message}
        if self.line is not None:
            found["line"] = self.line
        return found


class SluicewayError(Exception):
    """Base of all expected errors. `detail` is a whole sentence for the person who caused it."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})


class InvalidInput(SluicewayError):
    code = "invalid_input"
    status = 422
    title = "The input is not valid"


class BadRequest(SluicewayError):
    code = "bad_request"
    status = 400
    title = "The request cannot be read"


class Unauthenticated(SluicewayError):
    code = "unauthenticated"
    status = 401
    title = "Who is asking is not known"


class Forbidden(SluicewayError):
    code = "forbidden"
    status = 403
    title = "Not permitted"


class NotFound(SluicewayError):
    code = "not_found"
    status = 404
    title = "Not found"


class Conflict(SluicewayError):
    code = "conflict"
    status = 409
    title = "Changed by someone else meanwhile"


class TooLarge(SluicewayError):
    code = "too_large"
    status = 413
    title = "Too large"


class UnsupportedMedia(SluicewayError):
    code = "unsupported_media_type"
    status = 415
    title = "This media type is not understood"


class TooManyRequests(SluicewayError):
    code = "too_many_requests"
    status = 429
    title = "Too many requests"
    retryable = True


class Unavailable(SluicewayError):
    code = "unavailable"
    status = 503
    title = "Not available just now"
    retryable = True
