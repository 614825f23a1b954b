"""The environments of child processes. Settings are read elsewhere (`sluiceway.infra.settings`)."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sluiceway.infra.settings import Settings

REPOSITORY_ROOT = Path(__file__).parents[2]

# glibc keeps an arena for each thread, eight times the cores: two save 100 to 200 MB over all processes.
_THRIFT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"}
_NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "DAGSTER_DISABLE_TELEMETRY": "yes",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "GX_ANALYTICS_ENABLED": "false",
}


def child_environment(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child process gets: ours, an absolute data folder, small heaps, no usage statistics."""
    found = dict(os.environ)
    # Children start from the same sources again and again: byte code saves seconds each time.
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    found |= _THRIFT | _NO_TELEMETRY
    found |= {
        "SLUICEWAY_HOME": str(settings.home),
        "SLUICEWAY_NODE": settings.node,
        "DAGSTER_HOME": str(settings.home / "dagster"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY_ROOT), found.get("PYTHONPATH")])),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), found.get("PATH", os.defpath)]),
    }
    return found | _lake_credentials(settings) | dict(extra or {})


def _lake_credentials(settings: Settings) -> dict[str, str]:
    """The bucket's keys under the names that boto3 reads: Dagster's compute logs go where the lake is."""
    named = {
        "AWS_ACCESS_KEY_ID": settings.s3_access_key_id,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_access_key,
        "AWS_DEFAULT_REGION": settings.s3_region if settings.s3_access_key_id else None,
    }
    return {name: value for name, value in named.items() if value is not None}


def inherited(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's own environment and `extra`, for a program that takes its place (psql, dbt)."""
    return dict(os.environ) | dict(extra)
