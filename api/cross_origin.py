"""Events from the pages of other sites (CORS, WHATWG Fetch): the sites that a pipeline names, and none else.

Belongs here: preflights and the fields that let a named site's page send events and read the answer. Not
here: who may send (`ingestion.access`); nothing but the event route is open to other sites at all.

A page holds its key in the open, so the key should be one with the scope `ingest` for that pipeline alone.
Cookies play no part: `Access-Control-Allow-Credentials` is never sent.
"""

from api.event_requests import EventRequest, Headers
from sluiceway.ingestion.access import Admission
from sluiceway.ingestion.senders.contracts import Reply
from sluiceway.kit.errors import Forbidden

PREFLIGHT_S = 600
"""How long a browser need not ask again; Chromium keeps to two hours at most, and a list may change."""
_SENT = b"authorization, content-type, content-encoding, idempotency-key, traceparent, tracestate"
_READ = b"retry-after, ratelimit, ratelimit-policy, x-request-id"
_VARY = (b"vary", b"origin")


class OriginNotAllowed(Forbidden):
    code = "origin_not_allowed"
    title = "Pages of this site may not send to the pipeline"


def is_preflight(asked: EventRequest) -> bool:
    """Whether a browser asks, on behalf of a page, whether it may send."""
    return asked.method == "OPTIONS" and bool(asked.origin) and asked.asks_for_method


def preflight_reply(asked: EventRequest, admission: Admission) -> Reply | None:
    """The answer to a preflight; None: nothing is offered to this site."""
    if asked.origin.lower() not in admission.origins:
        return None
    headers = (
        (b"access-control-allow-origin", asked.origin),
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", _SENT),
        (b"access-control-max-age", b"%d" % PREFLIGHT_S),
        _VARY,
    )
    return Reply(200, "text/plain", b"", headers)


def answer_headers(asked: EventRequest, admission: Admission) -> Headers:
    """What goes with every answer to a request that a page made, refusals among them.

    Raises `OriginNotAllowed` where the pipeline names sites and this is none of them: a key that was taken
    from one site's page is of no use in another's.
    """
    if not asked.origin or not admission.origins:
        return []
    if asked.origin.lower() not in admission.origins:
        raise OriginNotAllowed("The pipeline's 'source.allowed_origins' does not name this site.")
    return [
        (b"access-control-allow-origin", asked.origin),
        (b"access-control-expose-headers", _READ),
        _VARY,
    ]
