"""What lies in the spool: positions and records. Not here: how they get onto the disk (`spool`)."""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a node's spool: segment number (from 1) and byte offset in it."""

    segment: int
    offset: int


class Form(IntEnum):
    """How the events lie in a record's body."""

    OBJECT = 1
    ARRAY = 2
    NDJSON = 3


@dataclass(frozen=True, slots=True)
class SpoolRecord:
    """One accepted request. `body` is what was sent, decompressed, to the byte; `end` is where the next
    record begins; `headers` holds only those the pipeline's paths read, in lower case."""

    position: Position
    end: Position
    workspace_id: int
    pipeline_id: int
    received_us: int
    form: Form
    headers: dict[str, str]
    events: int
    body: bytes
