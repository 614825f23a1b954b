"""How full the spool and its disk are, asked as seldom as is safe."""

import errno
import time
from pathlib import Path

from sluiceway.ingestion.errors import DiskReserveReached, SpoolFull, SpoolWriteFailed
from sluiceway.ingestion.spool import segments
from sluiceway.ingestion.spool.drain import Drain
from sluiceway.kit.errors import SluicewayError

_LOOK_AGAIN_S = 0.2
_REFUSAL_HOLDS_S = 1.0
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskGauge:
    """Knows whether `max_bytes` of spool or `reserve_bytes` of free disk would be passed.

    Used by the writer's thread only, but for `refusal` and `used`, which anyone may read.
    """

    def __init__(self, folder: Path, max_bytes: int, reserve_bytes: int, files: segments.FileOps) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._files = files
        self.used = segments.used_bytes(folder)
        self._used_at = self._free_at = time.monotonic()
        self._free = files.free_bytes(folder)
        self._drain = Drain(folder)
        self._refusal: SluicewayError | None = None
        self._refused_at = 0.0

    @property
    def refusal(self) -> SluicewayError | None:
        """The last refusal while it is fresh; after a second a request may try again."""
        if self._refusal is not None and time.monotonic() - self._refused_at < _REFUSAL_HOLDS_S:
            return self._refusal
        return None

    def check(self, coming: int) -> SluicewayError | None:
        """Why `coming` bytes should not be written, or None."""
        now = time.monotonic()
        if self.used + coming > self._max_bytes and now - self._used_at > _LOOK_AGAIN_S:
            self.used = segments.used_bytes(self._folder)  # the loader has trimmed meanwhile, perhaps
            self._used_at = now
        if now - self._free_at > _LOOK_AGAIN_S or self._free - coming < self._reserve_bytes:
            self._free = self._files.free_bytes(self._folder)
            self._free_at = now
        if self._free - coming < self._reserve_bytes:
            missing = self._reserve_bytes + coming - self._free
            return self._refuse(
                DiskReserveReached(
                    "The disk is nearly full; free some space.", retry_after_s=self._wait(missing)
                )
            )
        if self.used + coming > self._max_bytes:
            wait = self._wait(self.used + coming - self._max_bytes)
            return self._refuse(SpoolFull("The spool is full: the loader is behind.", retry_after_s=wait))
        self._refusal = None
        return None

    def add(self, written: int) -> None:
        self.used += written
        self._free -= written

    def from_os_error(self, error: OSError) -> SluicewayError:
        """What a failed write means for those who sent the events."""
        self._free_at = 0.0
        if error.errno in _NO_SPACE:
            wait = self._wait(1)
            return self._refuse(DiskReserveReached("The disk is full; free some space.", retry_after_s=wait))
        return SpoolWriteFailed("The events could not be written; send them again.", retry_after_s=5)

    def _wait(self, missing: int) -> float:
        """Seconds until the loader will have let go of so many bytes, as fast as it is just now."""
        return self._drain.seconds_to_free(missing)

    def _refuse(self, error: SluicewayError) -> SluicewayError:
        self._refusal = error
        self._refused_at = time.monotonic()
        return error
