"""The identity of a time series: pipeline, metric and dimension values."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson


def canonical_dimensions(dimensions: Mapping[str, Any]) -> bytes:
    """The dimensions as JSON with sorted keys and no spaces."""
    return orjson.dumps(dimensions, option=orjson.OPT_SORT_KEYS)


def series_id(pipeline_id: int, metric: str, canonical: bytes) -> int:
    """The first 63 bits of BLAKE2b over pipeline, metric and canonical dimensions: never negative."""
    digest = hashlib.blake2b(b"%d\0%s\0%s" % (pipeline_id, metric.encode(), canonical), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1
