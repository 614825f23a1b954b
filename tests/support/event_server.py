"""The event route as a process: `python -m tests.support.event_server FOLDER PORT`. Every key is good."""

import math
import sys
from pathlib import Path

import uvicorn

from api.events import EventRoute, Limits
from sluiceway.ingestion.access import AccessCache, Admission
from sluiceway.ingestion.spool import SpoolWriter


def admit(key: str, slug: str) -> Admission:
    return Admission(1, 1, slug, key, frozenset(), math.inf)


def main(folder: str, port: str) -> None:
    writer = SpoolWriter(Path(folder), segment_bytes=200_000)
    limits = Limits(body_bytes=1 << 24, event_bytes=1 << 20)
    route = EventRoute(writer, AccessCache(admit), "test", limits)
    uvicorn.run(route, host="127.0.0.1", port=int(port), lifespan="off", log_level="error", access_log=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
