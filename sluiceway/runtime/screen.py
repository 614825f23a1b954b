"""What a person sees while the platform starts and runs: a line a step, with a spinner on a terminal.

Not on a terminal (a log, a build server) it is plain lines. No logic beyond that.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.status import Status


class Screen:
    """Prints steps as they begin and end. Safe to use from several threads."""

    def __init__(self, *, plain: bool | None = None) -> None:
        from rich.console import Console

        self.plain = not sys.stdout.isatty() if plain is None else plain
        self._console = Console(highlight=False, soft_wrap=True, no_color=self.plain or None)
        self._running: dict[str, float] = {}
        self._status: Status | None = None

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show that `what` is being done, then that it is done and how long it took."""
        self.begin(what)
        try:
            yield
        except BaseException:
            self._running.pop(what, None)
            self._refresh()
            raise
        self.end(what)

    def begin(self, what: str) -> None:
        self._running[what] = time.monotonic()
        self._refresh()

    def end(self, what: str, note: str = "") -> None:
        started = self._running.pop(what, None)
        self._refresh()
        took = "" if started is None else f"  {time.monotonic() - started:.1f} s"
        self.say(f"[green]✓[/] {what}[dim]{took}{'  ' + note if note else ''}[/]")

    def say(self, text: str) -> None:
        self._console.print(text)

    def warn(self, text: str) -> None:
        from rich.markup import escape

        self._console.print(f"[yellow]![/] {escape(text)}")

    def close(self) -> None:
        self._running.clear()
        self._refresh()

    def _refresh(self) -> None:
        if self.plain:
            return
        if not self._running:
            if self._status is not None:
                self._status.stop()
                self._status = None
            return
        text = " · ".join(self._running)
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)
