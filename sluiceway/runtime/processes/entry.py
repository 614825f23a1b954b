"""What every process does first and last: settings, logging, stop on SIGTERM, one clear line on failure."""

import logging
import signal
import sys
import threading
from collections.abc import Callable

from sluiceway.infra import redaction
from sluiceway.infra.settings import Settings, load_settings
from sluiceway.kit.errors import SluicewayError

# Libraries that tell too much at level info.
_QUIET = ("httpx", "httpcore", "urllib3", "alembic", "great_expectations")


def configure_logging(level: str) -> None:
    """Log lines on standard error with UTC times; the supervisor keeps them in files."""
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        stream=sys.stderr,
    )
    import time

    logging.Formatter.converter = time.gmtime
    for name in _QUIET:
        logging.getLogger(name).setLevel("WARNING")


def stop_event() -> threading.Event:
    """Set by SIGTERM or SIGINT."""
    event = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: event.set())
    return event


def run(main: Callable[[Settings], int]) -> int:
    """Read the settings, run `main`, turn an expected error into one line and exit code 1 (2: a setting)."""
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        redaction.install(settings)
        return main(settings)
    except SluicewayError as error:
        sys.stderr.write(f"{redaction.redact(error.detail)}\n")
        return 2 if error.code == "wrong_setting" else 1
    except KeyboardInterrupt:
        return 130
