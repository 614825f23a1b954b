"""What an error says before Dagster keeps it: without the secrets that a library may have put into it.

Dagster stores an error's text, its causes and its traceback with the run, for a month, and shows them to
whoever opens its pages; the nets under the logging (`sluiceway.infra.redaction`) are not asked.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from sluiceway.infra.redaction import redact


@contextmanager
def without_secrets() -> Iterator[None]:
    """Let an error out as it is, or where it holds a secret as a failure that says the rest of it.

    Also as a decorator of what Dagster calls; of a generator only around its own lines.
    """
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        plain = redact(text)
        if plain == text:
            raise
        # A failure of our own making has said whether to try again.
        again = error.allow_retries if isinstance(error, dg.Failure) else True
        raise dg.Failure(plain, allow_retries=again) from None
