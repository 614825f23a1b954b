"""What can go wrong with following data live, as errors with stable codes."""

from sluiceway.kit.errors import BadRequest, Forbidden, InvalidInput, Unauthenticated, Unavailable


class InvalidStreamToken(Unauthenticated):
    code = "invalid_stream_token"
    title = "The stream token is not valid"


class StreamTokenExpired(Unauthenticated):
    code = "stream_token_expired"
    title = "The stream token has expired"


class NotInToken(Forbidden):
    code = "not_in_token"
    title = "The stream token is for other pipelines"


class InvalidEventId(BadRequest):
    code = "invalid_event_id"
    title = "Last-Event-ID cannot be read"


class InvalidTokenRequest(InvalidInput):
    code = "invalid_stream_token_request"
    title = "The stream token cannot be made"


class TooManyStreams(Unavailable):
    code = "too_many_streams"
    title = "Too many streams are open"
