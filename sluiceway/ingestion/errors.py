"""Why events are not taken, as errors with stable codes."""

from sluiceway.kit.errors import (
    BadRequest,
    Conflict,
    InvalidInput,
    NotFound,
    SluicewayError,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
)


class SpoolLocked(Conflict):
    code = "spool_locked"
    title = "Another process writes to this spool"


class SpoolClosed(Unavailable):
    code = "spool_closed"
    title = "This process is stopping"


class SpoolFull(Unavailable):
    """The spool reached its high-water mark: its readers are behind."""

    code = "spool_full"
    title = "Too much is waiting to be loaded"


class DiskReserveReached(Unavailable):
    code = "disk_full"
    title = "The disk is nearly full"


class SpoolWriteFailed(Unavailable):
    code = "spool_write_failed"
    title = "The disk could not be written"


class DatabaseAway(Unavailable):
    code = "database_unavailable"
    title = "The database does not answer and this key is not known here yet"


class MissingKey(Unauthenticated):
    code = "missing_key"
    title = "No API key was sent"


class MalformedBody(BadRequest):
    code = "malformed_json"
    title = "The body is not valid JSON"


class MalformedForm(BadRequest):
    code = "malformed_form"
    title = "The body is not a valid form"


class InvalidEncoding(BadRequest):
    code = "invalid_utf8"
    title = "The body is not valid UTF-8"


class NestedTooDeep(BadRequest):
    code = "nested_too_deep"
    title = "The JSON is nested too deep"


class NotAnEvent(BadRequest):
    code = "not_an_object"
    title = "An event is a JSON object"


class EmptyBody(BadRequest):
    code = "empty_body"
    title = "The body is empty"


class BrokenCompression(BadRequest):
    code = "broken_compression"
    title = "The body cannot be decompressed"


class BodyTooLarge(TooLarge):
    code = "body_too_large"
    title = "The body is too large"


class CompressionRatio(TooLarge):
    """A compressed bomb, or as good as one."""

    code = "compression_ratio"
    title = "The body grows too much when decompressed"


class TooManyMembers(TooLarge):
    """Compressed in pieces so small that undoing it would cost more than the events in it."""

    code = "too_many_members"
    title = "The body is compressed in too many pieces"


class EventTooLarge(TooLarge):
    code = "event_too_large"
    title = "An event is too large"


class UnknownMediaType(UnsupportedMedia):
    code = "unsupported_media_type"


class UnknownContentEncoding(UnsupportedMedia):
    code = "unsupported_content_encoding"
    title = "This content encoding is not understood"


class TooMuchInFlight(TooManyRequests):
    """More bytes are on their way in than this process may hold."""

    code = "too_much_in_flight"


class BodyTimeout(SluicewayError):
    code = "request_timeout"
    status = 408
    title = "The body did not arrive in time"
    retryable = True


class TooManyEvents(TooLarge):
    code = "too_many_events"
    title = "A request holds too many events"


class BatchExceedsBurst(TooLarge):
    """More in one request than its limit ever lets through at once: waiting does not help."""

    code = "batch_exceeds_burst"
    title = "One request is larger than the limit's burst"


class RateLimited(TooManyRequests):
    """A pipeline's or a key's rate is used up; `retry_after_s` is when the asked number will be there."""

    code = "rate_limited"
    title = "More was sent than the limit allows"


class PipelineBacklogged(TooManyRequests):
    """One pipeline's events fill its share of what may wait to be loaded; the others go on."""

    code = "pipeline_backlogged"
    title = "Too much of this pipeline is waiting to be loaded"


class LoaderBehind(Unavailable):
    code = "loader_behind"
    title = "The loader is too far behind"


class InvalidSecret(InvalidInput):
    code = "invalid_secret"
    title = "The secret cannot be kept"


class SecretNotFound(NotFound):
    code = "secret_not_found"
    title = "There is no such secret"
