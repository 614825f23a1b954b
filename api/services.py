"""What routes are given to work with. Built by the composition root, or by a test, and kept on the app.

Optional parts are None in a process that does not have that role (an ingest process has no broker).
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sluiceway.infra.clock import Clock, SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.keys import SecretKey
from sluiceway.infra.settings import Settings

if TYPE_CHECKING:
    from sluiceway.ingestion.limits import IntakeLimits
    from sluiceway.ingestion.spool import SpoolWriter
    from sluiceway.lake.service import Lake
    from sluiceway.live.service import LiveBroker
    from sluiceway.quality.contracts import Gate
    from sluiceway.quality.service import SuiteChecker


@dataclass(slots=True)
class ApiServices:
    """The application's dependencies. `stopping` is set when the process is to stop: streams end then."""

    settings: Settings
    database: Database
    key: SecretKey
    clock: Clock = field(default_factory=SystemClock)
    spool: "SpoolWriter | None" = None
    intake: "IntakeLimits | None" = None
    event_counts: Mapping[str, int] | None = None
    """The event route's answers by code, `accepted` and `events` among them."""
    refusals: Mapping[str, int] | None = None
    """What was turned away before any route saw it, by code."""
    broker: "LiveBroker | None" = None
    lake: "Lake | None" = None
    gate: "Callable[[], Gate] | None" = None
    """Gives the gate that judges retried events; it may be used from several threads."""
    check_suite: "SuiteChecker | None" = None
    """What the quality engine has against a suite; it may import the engine when first called."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    extra: dict[str, Any] = field(default_factory=dict)
    """Parts a single route module needs and makes itself (caches), by the module's name."""
