"""Which work of the event route leaves the loop: what is long, and of signatures and forms far sooner."""

import asyncio
import threading

import pytest

from api.events import _in_thread_if_long


@pytest.mark.parametrize(
    ("size", "costly", "in_thread"),
    [
        (32 * 1024, True, False),
        (32 * 1024 + 1, True, True),
        (1024 * 1024, False, False),
        (1024 * 1024 + 1, False, True),
    ],
)
def test_long_work_is_done_in_a_thread(size: int, costly: bool, in_thread: bool) -> None:
    found = asyncio.run(_in_thread_if_long(threading.get_ident, bytes(size), costly=costly))
    assert (found != threading.get_ident()) is in_thread
