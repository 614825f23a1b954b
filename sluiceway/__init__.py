"""Sluiceway: from an event that arrives to a live, trusted number.

The domain as a plain library: it knows no web framework, no orchestrator and no screen. Those live
beside it (`api`, `orchestration`, `dashboards_app`) and are put together in `sluiceway.runtime`.
"""

__version__ = "0.1.0"
