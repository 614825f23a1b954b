"""The filter of known ids: never no to what was added, seldom yes to what was not."""

import uuid

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.warehouse.known import Filter, Growing, Hashed


def hashed(ids: list[str]) -> Hashed:
    return Hashed.of(pl.Series(ids, dtype=pl.String))


@given(st.lists(st.lists(st.text(max_size=20), max_size=30), max_size=8))
def test_whatever_was_added_is_there(pieces: list[list[str]]) -> None:
    found = Filter(100)
    for piece in pieces:
        found.add(hashed(piece))
    for piece in pieces:
        assert found.has(hashed(piece)).all()
    everything = [text for piece in pieces for text in piece]
    assert found.has(hashed(everything[::-1])).all()
    assert found.count == len(everything)


def test_few_others_are_taken_for_known() -> None:
    found = Filter(100_000)
    found.add(hashed([str(uuid.UUID(int=number << 64 | number)) for number in range(100_000)]))
    others = [str(uuid.UUID(int=number << 64 | number + 1)) for number in range(50_000)]
    assert found.has(hashed(others)).mean() < 0.05
    assert not Filter(100_000).has(hashed(others)).any()


def test_more_than_it_was_made_for_is_still_there() -> None:
    found = Filter(10)
    ids = hashed([str(number) for number in range(5_000)])
    found.add(ids)
    assert found.has(ids).all() and found.count == 5_000


def test_filters_that_grow_forget_nothing_and_stay_selective() -> None:
    found = Growing(1_000)
    ids = [str(uuid.UUID(int=number << 64 | number)) for number in range(50_000)]
    for begin in range(0, len(ids), 500):
        found.add(hashed(ids[begin : begin + 500]))
    assert found.has(hashed(ids)).all() and found.count == len(ids)
    assert len(ids) <= found.capacity < 5 * len(ids)
    others = [str(uuid.UUID(int=number << 64 | number + 1)) for number in range(50_000)]
    assert found.has(hashed(others)).mean() < 0.05
