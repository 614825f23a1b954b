"""What is told of a change that has reached a stream: how long it took since its commit, and its span.

Not here: the streams themselves.
"""

import time
from datetime import datetime
from typing import Literal

from sluiceway.infra import metrics, telemetry
from sluiceway.live.contracts import BatchLoaded

Stream = Literal["rows", "changes"]


def delivered(change: BatchLoaded, stream: Stream) -> None:
    """The change, or the rows it brought, were just handed to a client's connection."""
    if change.at is None:
        return
    now_ns = time.time_ns()
    committed_ns = int(datetime.fromisoformat(change.at).timestamp() * 1e9)
    metrics.LIVE_DELIVERY_SECONDS.labels(stream).observe(max(0.0, (now_ns - committed_ns) / 1e9))
    tracing = telemetry.active()
    if tracing is None:
        return
    for traceparent in change.traces:
        span = tracing.start(
            "deliver",
            committed_ns,
            kind="producer",
            parent=traceparent,
            attributes={"sluiceway.pipeline": change.pipeline, "sluiceway.stream": stream},
        )
        if span is not None:
            span.end(max(now_ns, committed_ns))
