"""How much is taken in: rates of pipelines and keys, and marks past which everybody has to wait.

This is its face; the modules inside are its own. What is limited and why so: `docs/limits.md` and
`docs/adr/0011-limits.md`. Not here: what a limit looks like in YAML (`sluiceway.catalog.limits`), sizes of
bodies and events (the event route), fair sharing among what waits (`sluiceway.loading`).
"""

from sluiceway.ingestion.limits.high_water import HighWater, HighWaterFigures, Marks
from sluiceway.ingestion.limits.limiter import LimiterFigures, RateLimiter
from sluiceway.ingestion.limits.refusals import RecentRefusals, RefusalBook, held_back, recent_refusals
from sluiceway.ingestion.limits.service import IntakeLimits, open_limits

__all__ = [
    "HighWater",
    "HighWaterFigures",
    "IntakeLimits",
    "LimiterFigures",
    "Marks",
    "RateLimiter",
    "RecentRefusals",
    "RefusalBook",
    "held_back",
    "open_limits",
    "recent_refusals",
]
