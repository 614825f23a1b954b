"""Answers are kept shortly, computed once, and bounded."""

from threading import Event, Thread

import pytest

from sluiceway.queries.cache import AnswerCache


def test_an_answer_is_kept_until_its_time_is_up() -> None:
    now = [0.0]
    cache: AnswerCache[str] = AnswerCache(len, ttl_s=10, monotonic=lambda: now[0])
    assert cache.get("k", lambda: "a") == ("a", False)
    assert cache.get("k", lambda: "b") == ("a", True)
    now[0] = 10.5
    assert cache.get("k", lambda: "b") == ("b", False)


def test_those_who_ask_the_same_wait_for_one() -> None:
    cache: AnswerCache[str] = AnswerCache(len)
    begun, go = Event(), Event()
    found: list[tuple[str, bool]] = []

    def slow() -> str:
        begun.set()
        assert go.wait(5)
        return "a"

    first = Thread(target=lambda: found.append(cache.get("k", slow)))
    first.start()
    assert begun.wait(5)
    second = Thread(target=lambda: found.append(cache.get("k", lambda: "never")))
    second.start()
    go.set()
    first.join(5)
    second.join(5)
    assert sorted(found) == [("a", False), ("a", True)]


def test_an_error_is_not_kept() -> None:
    cache: AnswerCache[str] = AnswerCache(len)
    with pytest.raises(ZeroDivisionError):
        cache.get("k", lambda: str(1 / 0))
    assert cache.get("k", lambda: "a") == ("a", False)


def test_the_oldest_go_when_there_is_too_much() -> None:
    cache: AnswerCache[str] = AnswerCache(len, max_cells=100)
    cache.get("too large", lambda: "x" * 50)
    assert cache.get("too large", lambda: "again") == ("again", False)
    for number in range(20):
        cache.get(number, lambda: "x" * 19)
    assert cache.get(19, lambda: "") == ("x" * 19, True)
    assert cache.get(0, lambda: "new") == ("new", False)
