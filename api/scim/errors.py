"""Errors as SCIM says them (RFC 7644, section 3.12), for everything below `/scim`.

Light: the rest of the API asks here for an error's form, whether or not anybody provisions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from sluiceway.kit.errors import SluicewayError

MEDIA_TYPE = "application/scim+json"
PREFIX = "/scim/"
_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:Error"
_TYPES = {
    "provisioned_twice": "uniqueness",
    "invitation_needed": "uniqueness",
    "invalid_provisioning": "invalidValue",
    "invalid_input": "invalidValue",
    "last_owner": "mutability",
    "bad_request": "invalidSyntax",
}


class ScimError(SluicewayError):
    """An error of the protocol itself, as the SCIM library found it."""

    code = "scim_error"
    status = 400
    title = "The SCIM request is not valid"

    def __init__(self, detail: str, *, status: int = 400, scim_type: str | None = None) -> None:
        super().__init__(detail)
        self.scim_status = status
        self.scim_type = scim_type


@contextmanager
def protocol() -> Iterator[None]:
    """What the SCIM library finds wrong, as our error."""
    from pydantic import ValidationError
    from scim2_models import Error, SCIMException

    try:
        yield
    except ValidationError as error:
        first = Error.from_validation_error(error.errors()[0])
        raise ScimError(first.detail or "", status=first.status or 400, scim_type=first.scim_type) from None
    except SCIMException as error:
        raise ScimError(error.detail, status=error.status, scim_type=error.scim_type or None) from None


def is_scim(path: str) -> bool:
    return path.startswith(PREFIX)


def scim_error(error: SluicewayError) -> tuple[bytes, int]:
    """The document and the status."""
    status, kind = error.status, _TYPES.get(error.code)
    if isinstance(error, ScimError):
        status, kind = error.scim_status, error.scim_type
    elif error.status == 422:
        status, kind = 400, kind or "invalidValue"
    document: dict[str, Any] = {"schemas": [_SCHEMA], "status": str(status), "detail": error.detail}
    if kind is not None and status in (400, 409):
        document["scimType"] = kind
    return orjson.dumps(document), status
