"""What an error of the database means for whoever asked: is it away, or is it what was sent to it?

The one place that decides it. Not here: in which words it is told (`trouble`), what is answered to clients
(`api.errors`), what is done then.
"""

import psycopg
import sqlalchemy as sa

# SQLSTATEs: read-only, a transaction cut for its age, out of resources, shutting down, an internal error.
_AWAY = ("25006", "25P03", "25P04", "53", "57P0", "XX")
_LIMITS = "54"  # what was sent is beyond what a server can do: psycopg calls it an operational error


def is_away(error: BaseException) -> bool:
    """Whether the server, not what was sent to it, is at fault: gone, going, read-only, full or broken.

    A server that is read-only may be one that is not promoted yet, or the wrong one of several.
    """
    cause = _cause(error)
    if not isinstance(cause, psycopg.Error):
        return isinstance(error, sa.exc.TimeoutError)
    state = cause.sqlstate or ""
    if state.startswith(_LIMITS):
        return False
    return state.startswith(_AWAY) or isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)


def is_refused(error: BaseException) -> bool:
    """Whether the server refuses the values it was given: wrong ones, or too large ones (class 54)."""
    cause = _cause(error)
    if isinstance(cause, psycopg.DataError):
        return True
    return isinstance(cause, psycopg.Error) and (cause.sqlstate or "").startswith(_LIMITS)


def _cause(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, sa.exc.DBAPIError) else error
