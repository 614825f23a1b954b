"""What the worker does now and then for order's sake: measuring usage, telling of limits, forgetting.

Belongs here: joining slices for it. Not here: how often (`runtime.processes.worker`), log files of the
supervisor's children (`runtime.logfiles`), retention of data (Dagster's job).
"""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.usage.measuring import measure_stored
from sluiceway.usage.notices import tell_of_limits

if TYPE_CHECKING:
    from sluiceway.lake.service import Lake

log = logging.getLogger(__name__)


class UsageMeter:
    """Measures what is stored. The lake is opened when it is first asked."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._lake: Lake | None = None

    def measure(self) -> None:
        """Raises `LakeUnavailable`."""
        from sluiceway.lake.service import Lake

        lake = self._lake = self._lake or Lake(self._settings)
        found = measure_stored(self._database, lake.stored_bytes, datetime.now(UTC))
        log.debug("what %d pipelines store was measured", len(found))

    def tell(self) -> None:
        """Tell of limits that were reached since."""
        tell_of_limits(self._database, self._settings, datetime.now(UTC))


def forget(settings: Settings, database: Database) -> None:
    """Sessions that ended, answers, refusals and counts of yesterday, old output of Dagster's steps."""
    now = datetime.now(UTC)
    with database.transaction(Role.WRITER) as connection:
        row = connection.execute(sa.text("SELECT * FROM app.sweep_expired(:now)"), {"now": now}).one()
    if row.sessions:
        log.info("%d sessions that had ended were forgotten", row.sessions)
    sweep_files(settings.home / "dagster" / "compute_logs", now - timedelta(days=settings.log_days))


def sweep_files(folder: Path, before: datetime) -> int:
    """Remove files that were last written before, and folders that are empty then; returns how many files."""
    removed = 0
    if not folder.is_dir():
        return removed
    for path in sorted(folder.rglob("*"), key=lambda found: len(found.parts), reverse=True):
        try:
            if path.is_symlink() or path.is_file():
                if path.lstat().st_mtime < before.timestamp():
                    path.unlink()
                    removed += 1
            elif path.stat().st_mtime < before.timestamp() and not any(path.iterdir()):
                path.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            log.debug("%s stays: %s", path.name, error.strerror)
    return removed
