"""What can go wrong with a query, as errors with stable codes."""

from sluiceway.kit.errors import InvalidInput, NotFound, SluicewayError, Unavailable


class InvalidQuery(InvalidInput):
    code = "invalid_query"
    title = "The query is not valid"


class ModelNotFound(NotFound):
    code = "model_not_found"
    title = "There is no such model"


class QueryTimeout(SluicewayError):
    code = "query_timeout"
    status = 504
    title = "The query took too long"
    retryable = True


class DatabaseAway(Unavailable):
    code = "database_unavailable"
    title = "The database does not answer just now"
