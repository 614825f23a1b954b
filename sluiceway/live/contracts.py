"""What the platform tells its own processes the moment it happens, on the channel `sluiceway_live`.

A notification says that something changed, never the data itself: whoever cares reads it from the database
with its own right to see it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

MOST_TRACES = 4
"""Traces that one change carries, and streams that a traced batch shows itself on."""


@dataclass(frozen=True, slots=True)
class BatchLoaded:
    """Rows `first_seq` to `last_seq` of a pipeline were committed. Times are ISO 8601 as sent.

    `traces`: `traceparent`s of the batches that are traced, not more than `MOST_TRACES`.
    """

    workspace_id: int
    pipeline_id: int
    pipeline: str
    first_seq: int | None
    last_seq: int | None
    rows: int
    min_event_time: str | None
    max_event_time: str | None
    at: str | None
    traces: tuple[str, ...] = ()

    def merged(self, later: "BatchLoaded") -> "BatchLoaded":
        """This and a later one of the same pipeline as one."""
        starts = [s for s in (self.first_seq, later.first_seq) if s is not None]
        ends = [s for s in (self.last_seq, later.last_seq) if s is not None]
        lows = [t for t in (self.min_event_time, later.min_event_time) if t is not None]
        highs = [t for t in (self.max_event_time, later.max_event_time) if t is not None]
        return BatchLoaded(
            workspace_id=self.workspace_id,
            pipeline_id=self.pipeline_id,
            pipeline=self.pipeline,
            first_seq=min(starts, default=None),
            last_seq=max(ends, default=None),
            rows=self.rows + later.rows,
            min_event_time=min(lows, key=_instant, default=None),
            max_event_time=max(highs, key=_instant, default=None),
            at=later.at,
            traces=(self.traces + later.traces)[:MOST_TRACES],
        )


@dataclass(frozen=True, slots=True)
class LayoutSaved:
    """A dashboard's widgets were moved by `client_id`. `layout` is None where it was too large to send."""

    workspace_id: int
    dashboard: str
    layout_version: int
    client_id: str
    layout: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DashboardChanged:
    """A dashboard was applied, edited or deleted (`version` None)."""

    workspace_id: int
    dashboard: str
    version: int | None


@dataclass(frozen=True, slots=True)
class CatalogChanged:
    workspace_id: int
    pipeline_id: int


@dataclass(frozen=True, slots=True)
class OtherChange:
    """A kind that this slice carries and does not know (`keys`, …): for listeners within the process."""

    kind: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Missed:
    """Notifications may have been lost (a broken connection, a slow subscriber): read everything again."""


Change = BatchLoaded | LayoutSaved | DashboardChanged | CatalogChanged | OtherChange | Missed


def decode(payload: str) -> Change:
    """The change in a notification. Raises ValueError if it is none."""
    data = orjson.loads(payload)
    if not isinstance(data, dict) or not isinstance(data.get("t"), str):
        raise ValueError("a notification is a JSON object with `t`")
    try:
        return _decode(data["t"], data)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the notification {data['t']!r} lacks {error}") from error


def _decode(kind: str, data: dict[str, Any]) -> Change:
    if kind == "batch":
        first, last = data.get("seq") or (None, None)
        return BatchLoaded(
            int(data["w"]), int(data["p"]), str(data["s"]), first, last, int(data.get("n", 0)),
            data.get("min"), data.get("max"), data.get("at"),
            (data["tp"],) if isinstance(data.get("tp"), str) else (),
        )  # fmt: skip
    if kind == "layout":
        return LayoutSaved(int(data["w"]), str(data["d"]), int(data["v"]), str(data["c"]), data.get("layout"))
    if kind == "dashboard":
        return DashboardChanged(int(data["w"]), str(data["d"]), data.get("v"))
    if kind == "catalog":
        return CatalogChanged(int(data["w"]), int(data["p"]))
    return OtherChange(kind, data)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
