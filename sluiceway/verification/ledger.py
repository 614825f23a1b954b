"""The lists that a verification is given: what a sender was told is accepted, what a consumer received.

A ledger is NDJSON (`{"pipeline": …, "event_id": …, "at": …}`), CSV with these names in its first line, or one
id a line. Where events have no id of their own, `position` and `events` stand for it, as the `202` told them.
A consumer's list has `seq` and `event_id`. Reading streams: a ledger of any length takes a few megabytes.
Not here: comparing (`service`).
"""

import csv
import gzip
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import msgspec
import orjson

from sluiceway.kit.errors import FieldError
from sluiceway.transforms.single import join_id
from sluiceway.transforms.values import Mismatch, to_text
from sluiceway.verification.errors import InvalidLedger

_POSITION = re.compile(r"(.+)-([0-9]+)-([0-9]+)")
_DECODER = msgspec.json.Decoder(dict[str, Any], float_hook=float)
_EXPECTED = (
    '{"pipeline": name, "event_id": id, "at": time}, CSV with these names in its first line, or one id a line'
)


class Entry(NamedTuple):
    """One acknowledged event. `at`: when (aware), if the sender wrote it down. `line` counts from 1.

    `position` (node/segment/offset/index) stands for the id where the sender knows none; then that is "".
    """

    pipeline: str
    event_id: str
    at: datetime | None = None
    line: int = 0
    position: str | None = None


class Receipt(NamedTuple):
    """One event as a consumer received it: its `seq` (the `id:` of SSE) and its id, or one of them."""

    pipeline: str
    event_id: str | None
    seq: int | None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger in a file; `pipeline` is whose the ids are where a line does not say (`-`: standard input)."""

    path: Path
    pipeline: str | None = None

    def __iter__(self) -> Iterator[Entry]:
        """Every line, in order. Raises `InvalidLedger` naming the line and what was expected."""
        for line, row in _rows(self.path, ("event_id", "position"), self.pipeline):
            slug = _pipeline(self.path, line, row, self.pipeline)
            at = row.get("at")
            when = None if at is None or at == "" else _time(self.path, line, at)
            event_id, position = row.get("event_id"), row.get("position")
            if position in (None, "") or event_id not in (None, ""):
                yield Entry(slug, _event_id(self.path, line, event_id), when, line)
            else:
                for place in _positions(self.path, line, position, row.get("events")):
                    yield Entry(slug, "", when, line, place)

    def writer(self, *, durable: bool = False) -> "LedgerWriter":
        """Append to the file. `durable`: each call is on disk when it returns."""
        return LedgerWriter(self.path, self.pipeline, durable=durable)


@dataclass(frozen=True, slots=True)
class ConsumerList:
    """What a consumer received, in a file of the same formats; a plain line is an event id."""

    path: Path
    pipeline: str | None = None

    def __iter__(self) -> Iterator[Receipt]:
        """Every line, in order. Raises `InvalidLedger`."""
        for line, row in _rows(self.path, ("event_id", "seq"), self.pipeline):
            seq, event_id = row.get("seq"), row.get("event_id")
            if seq in (None, "") and event_id in (None, ""):
                raise _wrong(self.path, line, "event_id", "should be there, or seq")
            yield Receipt(
                _pipeline(self.path, line, row, self.pipeline),
                None if event_id in (None, "") else _event_id(self.path, line, event_id),
                None if seq in (None, "") else _whole(self.path, line, "seq", seq),
                line,
            )


class LedgerWriter:
    """Appends acknowledged ids as NDJSON; several threads may share one. Close it (or use `with`)."""

    def __init__(self, path: Path, pipeline: str | None = None, *, durable: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._pipeline = pipeline
        self._durable = durable
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)

    def add(
        self, event_ids: str | Iterable[str], *, pipeline: str | None = None, at: datetime | None = None
    ) -> None:
        """Write one id or several down, in one call to the operating system; `at`: default now."""
        slug = pipeline or self._pipeline
        if slug is None:
            raise ValueError("the ledger does not say which pipeline the ids are of")
        when = (at or datetime.now(UTC)).isoformat()
        ids = [event_ids] if isinstance(event_ids, str) else event_ids
        lines = b"".join(
            orjson.dumps({"pipeline": slug, "event_id": i, "at": when}, option=orjson.OPT_APPEND_NEWLINE)
            for i in ids
        )
        with self._lock:
            self._file.write(lines)
            if self._durable:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "LedgerWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _rows(path: Path, names: Sequence[str], pipeline: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines as (number, fields), whatever the format: the first line that is not blank decides."""
    with _open(path) as file:
        parse: Callable[[str, int], dict[str, Any]] | None = None
        number = 0
        try:
            for number, text in enumerate(file, 1):
                if not (line := text.strip()):
                    continue
                if parse is None:
                    parse, is_header = _format(path, line, number, names, pipeline)
                    if is_header:
                        continue
                yield number, parse(line, number)
        except UnicodeDecodeError:
            raise _wrong(path, number + 1, "", f"is not UTF-8; a line should be {_EXPECTED}") from None
        except (gzip.BadGzipFile, EOFError):
            raise _wrong(path, number + 1, "", "is not whole: the file is cut short, or not gzip") from None


def _open(path: Path) -> TextIO:
    if str(path) == "-":
        return sys.stdin
    try:
        if path.suffix == ".gz":
            return gzip.open(path, "rt", encoding="utf-8", newline="\n")
        return path.open(encoding="utf-8", newline="\n")
    except OSError as error:
        raise InvalidLedger(f"The file {path} cannot be read: {error.strerror}.") from None


def _format(
    path: Path, line: str, number: int, names: Sequence[str], pipeline: str | None
) -> tuple[Callable[[str, int], dict[str, Any]], bool]:
    if line.startswith("{"):
        return lambda text, at: _json_line(path, text, at), False
    header = [name.strip().lower() for name in next(csv.reader([line]))]
    if any(name in header for name in names):
        if "pipeline" not in header and pipeline is None:
            raise _wrong(path, number, "pipeline", "should be a column, or given with --pipeline")
        return lambda text, at: _csv_line(path, header, text, at), True
    if pipeline is None:
        raise _wrong(path, number, "", f"should be {_EXPECTED} (which needs --pipeline), not {_shown(line)}")
    return lambda text, _: {"event_id": text}, False


def _json_line(path: Path, text: str, number: int) -> dict[str, Any]:
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise _wrong(path, number, "", f"should be a JSON object, not {_shown(text)}") from None


def _csv_line(path: Path, header: list[str], text: str, number: int) -> dict[str, Any]:
    values = next(csv.reader([text]))
    if len(values) != len(header):
        raise _wrong(path, number, "", f"should have {len(header)} columns, but has {len(values)}")
    return dict(zip(header, values, strict=True))


def _pipeline(path: Path, line: int, row: dict[str, Any], default: str | None) -> str:
    found = row.get("pipeline") or default
    if found is None:
        raise _wrong(path, line, "pipeline", "should name a pipeline (or give --pipeline)")
    if not isinstance(found, str):
        raise _wrong(path, line, "pipeline", f"should be text, not {_shown(found)}")
    return found


def _event_id(path: Path, line: int, value: Any) -> str:
    """The id as the loader would write it: parts joined, numbers as their JSON text, long ones digested."""
    parts = value if isinstance(value, list) else [value]
    try:
        texts = [to_text(part) for part in parts if part not in (None, "")]
    except Mismatch:
        texts = []
    if not texts or len(texts) != len(parts):
        expected = "should be text or a number (or a list of them, for an id of several paths)"
        raise _wrong(path, line, "event_id", f"{expected}, not {_shown(value)}")
    return join_id(texts)


def _time(path: Path, line: int, value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong(path, line, "at", f"should be an ISO 8601 time, not {_shown(value)}") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _whole(path: Path, line: int, field: str, value: Any) -> int:
    try:
        if isinstance(value, bool) or (number := int(str(value))) < 1:
            raise ValueError
    except ValueError:
        expected = f"should be a whole number from 1, not {_shown(value)}"
        raise _wrong(path, line, field, expected) from None
    return number


def _positions(path: Path, line: int, position: Any, events: Any) -> list[str]:
    """Of each event of a request that was answered with `{"accepted": events, "position": position}`."""
    match = _POSITION.fullmatch(position) if isinstance(position, str) else None
    if match is None:
        expected = f"should be as the 202 told it (node-segment-offset), not {_shown(position)}"
        raise _wrong(path, line, "position", expected)
    count = 1 if events in (None, "") else _whole(path, line, "events", events)
    return [f"{match[1]}/{match[2]}/{match[3]}/{index}" for index in range(count)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _wrong(path: Path, line: int, field: str, message: str) -> InvalidLedger:
    name = "standard input" if str(path) == "-" else path.name
    what = f"{field} {message}" if field else f"the line {message}"
    return InvalidLedger(f"{name}, line {line}: {what}.", errors=[FieldError(field, message, line)])
