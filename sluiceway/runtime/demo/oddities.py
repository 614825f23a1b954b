"""What goes wrong in real life, on purpose and seldom: so that dead letters, duplicates and gates show.

Deterministic: the n-th event sent live is always odd in the same way.
"""

import orjson

from sluiceway.runtime.demo.flights import Event

ODD_EVERY = 37
TWICE_EVERY = 23


def disturb(number: int, event: Event) -> list[bytes]:
    """The lines to send for the `number`-th live event (from 1): itself, twice, or something odd besides."""
    line = event.line()
    if number % ODD_EVERY == 0:
        return [line, _odd(number // ODD_EVERY, event)]
    if number % TWICE_EVERY == 0:
        return [line, line]
    return [line]


def _odd(kind: int, event: Event) -> bytes:
    document = dict(event.document)
    document["id"] = f"{document['id']}/odd{kind}"
    match kind % 6:
        case 0:
            document["dep_delay"] = "unknown"  # not a number
        case 1:
            del document["id"]  # no identity
        case 2:
            document["scheduled"] = "1913-04-31T25:61:00Z"  # no such time
        case 3:
            document["origin"] = "XXX"  # no airport of New York
        case 4:
            document["air_time"] = -12  # cannot be
        case _:
            return b'{"id": "' + orjson.dumps(document["id"])[1:-1] + b'", "carrier": \n'  # broken off
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
