"""Fault points: named places in the way of an event at which a test may end the process.

`reach` does nothing until `arm` was called in the same process, and nothing but a test's own entry point
calls `arm`: no setting and no environment variable reaches it, so no production process can be made to obey.
Points stand where one step is done and the next is not; none stands in a loop over events. Not here: what a
test does at a point (`tests/support/faults`). `docs/adr/0015-faults.md` says why it is built like this.
"""

from collections.abc import Callable
from types import MappingProxyType

POINTS = MappingProxyType(
    {
        "route.before_answer": "the events of a request are on disk, nothing is answered",
        "route.after_answer": "202 was handed to the server's transport",
        "route.before_plain_answer": "the same for a request that was taken where its bytes arrive",
        "route.after_plain_answer": "202 was handed to the connection",
        "spool.before_write": "a group of records is encoded, nothing of it is in the file",
        "spool.after_write": "the group is in the page cache, not on disk",
        "spool.after_sync": "the group is on disk, nobody knows yet",
        "spool.before_resolve": "readers were woken, the senders do not know yet",
        "spool.after_resolve": "the event loop has been told",
        "spool.roll_begin": "the old segment is closed, there is no new one",
        "spool.roll_created": "the new segment's file is there, empty",
        "spool.roll_written": "its header is written, not synced",
        "spool.roll_synced": "the segment and its entry in the folder are on disk, nothing uses it yet",
        "spool.recover_begin": "the newest segment is about to be checked for a torn tail",
        "spool.recovered": "a torn tail was cut off",
        "spool.trim_begin": "a segment that everybody has read is about to go",
        "spool.trimmed": "it has gone",
        "loader.lease_taken": "pipelines are leased, the transaction that says so is open",
        "loader.read": "records are read from the spool, none is mapped",
        "loader.mapped": "they are typed rows and rejected events, in memory only",
        "loader.noted": "a batch is committed, and the loader knows it",
        "load.leaves_ready": "the partitions are there, the transaction has not begun",
        "load.locked": "the pipeline's lock is held",
        "load.judged": "duplicates are out, the gate has spoken",
        "load.batch_row": "the batch's own row is inserted",
        "load.rows_copied": "event ids and silver rows are copied",
        "load.samples_copied": "series and samples are copied",
        "load.dirty_marked": "gold's buckets are marked",
        "load.before_commit": "everything is written, the transaction is open",
        "load.after_commit": "committed, the loader does not know yet",
        "lake.intent_saved": "which stretch is to be written is on disk, none of its objects is in the lake",
        "lake.before_put": "an object's bytes are ready",
        "lake.after_put": "the object is in the lake for good, the cursor does not know",
        "lake.cursor_saved": "the whole stretch is in the lake, and the cursor says so",
        "gold.before_refresh": "dirty buckets wait",
        "gold.after_refresh": "they were computed again and committed",
        "outbox.leased": "messages are leased, none is handled",
        "outbox.handled": "a message is handled, that is not noted yet",
        "outbox.settled": "it is noted",
        "live.notified": "a process that serves streams was told of a batch",
        "live.read": "a follower's next rows were read",
    }
)
"""Every point with what is true there. Tests check that each is reached, and that no other is named."""

_act: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """The process has come to the point `name`. Free unless armed: a load and a comparison."""
    if _act is not None:
        _act(name)


def arm(act: Callable[[str], None]) -> None:
    """Call `act` with the name of each point that a thread reaches from now on: for tests' entry points."""
    global _act
    _act = act


def disarm() -> None:
    """Points do nothing again."""
    global _act
    _act = None
