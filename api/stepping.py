"""Running an awaitable up to its first wait, to see whether there is anything to wait for.

The event route uses it so that a request whose body is there already pays for no timer.
"""

from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Step(Generic[T]):
    """An awaitable that has been begun. `done`: it did not have to wait, and `result` is what it gave.

    Otherwise await this object, once, in the task that made it and before that task waits for anything else.
    """

    __slots__ = ("_iterator", "_yielded", "done", "result")

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._iterator: Generator[Any, Any, T] = awaitable.__await__()
        self.done = False
        self.result: T | None = None
        try:
            self._yielded = next(self._iterator)
        except StopIteration as end:
            self.done = True
            self.result = end.value

    def __await__(self) -> Generator[Any, Any, T]:
        yielded = self._yielded
        while True:
            try:
                try:
                    sent = yield yielded
                except BaseException as error:
                    yielded = self._iterator.throw(error)
                else:
                    yielded = self._iterator.send(sent)
            except StopIteration as end:
                found: T = end.value
                return found
