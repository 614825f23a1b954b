"""Where a range that is verified ends: a day is taken whole, a time is that moment."""

from datetime import datetime

import pytest
import typer

from sluiceway.runtime.commands.verifying import _end


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-11-21", "2026-11-22T00:00:00"),
        ("2026-11-21T00:00:00", "2026-11-21T00:00:00"),
        ("2026-11-21T13:30:00", "2026-11-21T13:30:00"),
    ],
)
def test_only_a_bare_date_means_the_whole_day(text: str, end: str) -> None:
    assert _end(text) == datetime.fromisoformat(end)


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-21T25:00:00", ""])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        _end(text)
