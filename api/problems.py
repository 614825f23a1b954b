"""The problem details document (RFC 9457) as bytes, for the event route (no framework) and for FastAPI.

Belongs here: the document's shape. Not here: which exception is which problem (`api.errors`).
"""

import math
from typing import Any

import orjson

from sluiceway.kit.errors import SluicewayError

MEDIA_TYPE = "application/problem+json"
_LATER_S = 5.0  # of 429 and 503, where nobody knows better: both have to say when


def problem_document(error: SluicewayError, *, request_id: str | None = None) -> tuple[bytes, dict[str, str]]:
    """The body and the headers beside `Content-Type` (`Retry-After`, `WWW-Authenticate`)."""
    document: dict[str, Any] = {
        "type": f"urn:sluiceway:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "retryable": error.retryable,
        **error.extra,
    }
    if error.errors:
        document["errors"] = [item.as_dict() for item in error.errors]
    if request_id is not None:
        document["request_id"] = request_id
    headers = {"Cache-Control": "no-store", **error.headers}
    later_s = error.retry_after_s
    if later_s is None and error.status in (429, 503):
        later_s = _LATER_S
    if later_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(later_s)))
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="sluiceway"')
    return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS), headers
