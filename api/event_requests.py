"""The head of a request to the event route, as ASGI gives it, and the answers that are no problem.

Belongs here: reading method, address and headers once, in the form in which the route's checks want them.
Not here: the checks (`api.events`), heads of plain requests (`api.event_heads`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Scope, Send

from api.connection_guard import HeadersTooLarge
from api.problems import MEDIA_TYPE, problem_document
from sluiceway.ingestion.access import Admission
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.errors import BodyTimeout
from sluiceway.kit.errors import BadRequest, NotFound, SluicewayError
from sluiceway.kit.ids import uuid7

PREFIX = "/v1/pipelines/"
SUFFIX = "/events"
MOST_KEPT_BYTES = 4096
"""Of headers that go with a record. They go with each of its events too, into rows and dead letters: what is
nothing in a request is a hundred thousand times as much in the database. No plain head is as long."""
_KEY = b"bearer slw_"

Headers = list[tuple[bytes, bytes]]


class MethodNotAllowed(SluicewayError):
    code = "method_not_allowed"
    status = 405
    title = "This method is not offered here"

    def __init__(self) -> None:
        super().__init__("Only POST is offered here.", headers={"Allow": "POST"})


@dataclass(frozen=True, slots=True)
class EventRequest:
    """What a request says before its body; headers that were not sent are empty.

    `raw_path` as sent, `path` unescaped, `query` without its question mark. `asks_for_method`: it is a
    browser's question whether a page may send.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    slug: str
    headers: Headers
    authorization: bytes
    content_type: bytes
    content_encoding: bytes
    content_length: bytes
    origin: bytes = b""
    asks_for_method: bool = False

    @property
    def has_key(self) -> bool:
        """Whether an API key of ours is shown, good or not."""
        return self.authorization[: len(_KEY)].lower() == _KEY

    def url(self, public_url: str) -> str:
        """The address as its sender saw it."""
        address = public_url + self.raw_path.decode("latin-1")
        return f"{address}?{self.query.decode('latin-1')}" if self.query else address


def read_request(scope: Scope) -> EventRequest:
    """Raises `NotFound` for other paths, `BadRequest` for a length that is no number."""
    path: str = scope["path"]
    if not is_event_path(path):
        raise NotFound("There is nothing here.")
    authorization = content_type = content_encoding = content_length = origin = b""
    asks_for_method = False
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            content_encoding = value
        elif name == b"content-length":
            if not value.isdigit():
                raise BadRequest("Content-Length is not a number.")
            content_length = value
        elif name == b"origin":
            origin = value
        elif name == b"access-control-request-method":
            asks_for_method = True
    return EventRequest(
        method=scope["method"],
        path=path,
        raw_path=scope.get("raw_path") or path.encode(),
        query=scope["query_string"],
        slug=path[len(PREFIX) : -len(SUFFIX)],
        headers=scope["headers"],
        authorization=authorization,
        content_type=content_type,
        content_encoding=content_encoding,
        content_length=content_length,
        origin=origin,
        asks_for_method=asks_for_method,
    )


def is_event_path(path: str) -> bool:
    return path.startswith(PREFIX) and path.endswith(SUFFIX)


def check_kept(headers: Headers, admission: Admission) -> None:
    """Raises `HeadersTooLarge` for more than may be kept."""
    kept = [(n, v) for n, v in headers if n in admission.headers or n == b"content-type"]
    if sum(len(name) + len(value) for name, value in kept) > MOST_KEPT_BYTES:
        names = ", ".join(sorted({name.decode("latin-1") for name, _ in kept}))
        raise HeadersTooLarge(
            f"The headers that are kept with events ({names}) may have {MOST_KEPT_BYTES} bytes together.",
            extra={"limit_bytes": MOST_KEPT_BYTES},
        )


def kept_headers(
    headers: Iterable[tuple[bytes, bytes]], admission: Admission, form: Form
) -> dict[str, str] | None:
    """The headers that go with the record: those that the pipeline's paths read, and a form's type."""
    if not admission.headers and form is not Form.FORM:
        return None
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in headers
        if name in admission.headers or (form is Form.FORM and name == b"content-type")
    }


async def send_problem(
    send: Send, error: SluicewayError, request_id: str | None = None, besides: Headers | None = None
) -> None:
    found = request_id or uuid7().hex
    body, extra = problem_document(error, request_id=found)
    headers = [(name.lower().encode(), value.encode()) for name, value in extra.items()]
    headers += besides or []
    headers.append((b"x-request-id", found.encode()))
    if isinstance(error, BodyTimeout):
        headers.append((b"connection", b"close"))
    await send_answer(send, error.status, MEDIA_TYPE.encode(), body, headers)


async def send_answer(
    send: Send, status: int, media_type: bytes, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    own = [(b"content-type", media_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
