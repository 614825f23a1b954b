"""All stages in the order of an event's way, then what it stands on; and what is remembered of each.

Thresholds and words are with each stage's judgement (`arriving`, `flowing`, `leaving`).
"""

from collections.abc import Sequence

from sluiceway.health import arriving, flowing, leaving
from sluiceway.health.contracts import Stage
from sluiceway.health.facts import Held, Past, Sample, Window
from sluiceway.health.view import View

_JUDGES = (
    arriving.receiving,
    arriving.spool,
    arriving.bronze,
    flowing.loading,
    flowing.gate,
    flowing.gold,
    leaving.live,
    leaving.delivery,
    leaving.database,
    arriving.disk,
)


def stages(past: Past, held: Sequence[Held], stuck_s: float | None = None) -> list[Stage]:
    """The judgement on the newest sample, which there must be."""
    view = View(past, tuple(held), stuck_s)
    return [judge(view) for judge in _JUDGES]


def trends(window: Window | None, sample: Sample) -> dict[str, float | None]:
    """Each stage's trend at one moment: of the figure that its judgement names."""
    disk, found = sample.disk, sample.database
    dirty = None if found is None or found.dirty_oldest is None else found.dirty_oldest
    rates: dict[str, float | None] = dict.fromkeys(("receiving", "loading", "live", "gate"))
    if window is not None:
        rates = {
            "receiving": window.rate("sluiceway_spool_events_total"),
            "loading": window.rate("sluiceway_rows_total"),
            "live": window.rate("sluiceway_live_notifications_total"),
            "gate": window.mean("sluiceway_stage_seconds", stage="gate"),
        }
    return {
        **rates,
        "spool": float(disk.spool_bytes),
        "bronze": None if sample.bronze is None else float(sample.bronze.waiting_bytes),
        "gold": None if found is None else 0.0 if dirty is None else (sample.at - dirty).total_seconds(),
        "delivery": None if found is None else float(found.outbox_waiting),
        "database": None if found is None else found.answer_s,
        "disk": float(disk.disk_free_bytes),
    }
