"""What is secret is taken out of everything a process writes about itself: log lines, tracebacks, last words.

Two nets: the values this process knows (its settings' secrets, the passwords it derives), and the shapes that
secrets have (keys, tokens, cookies, credentials in addresses, `password=…`). It works where records are made,
before any handler, a library's own included, sees them. Belongs here: the nets. Not here: where lines go
(`runtime.processes.entry`), the audit log's own rules (`sluiceway.audit.canonical`).
"""

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from sluiceway.infra.settings import SETTINGS, Settings

HIDDEN = "***"
LEAST_KNOWN = 8
"""Shorter values are not searched for: too much else would look like them."""

_NAMES = (
    r"pass(?:word|wd|phrase)|secret(?:[_-]?(?:access[_-]?)?key)?|client[_-]?secret|api[_-]?key|access[_-]?key|private[_-]?key|token|otp"
    r"|authorization|cookie|set-cookie|dsn"
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Our keys: which one it was may be known.
    (re.compile(r"slw_([a-z0-9]{12})_[A-Za-z0-9_-]{20,}"), rf"slw_\1_{HIDDEN}"),
    (re.compile(r"\b(whsec_|sk_live_|sk_test_|xox[abp]-|gh[pousr]_)[A-Za-z0-9+/=_-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s/@:\"']*):[^\s/@\"']+@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"((?:__Host-)?sluiceway_[a-z_]+=)[^;\s\"',]{8,}"), rf"\1{HIDDEN}"),
    # One-time links and links to dashboards carry their token in the path.
    (
        re.compile(
            r"(/(?:link|links|invitation|invitations|invite|reset|reset-password)/)[A-Za-z0-9_-]{32,}"
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(
            rf"(?i)((?:[A-Za-z0-9_-]*(?:{_NAMES}))[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s\"',;&)\]}}]+)"
        ),
        rf"\1{HIDDEN}",
    ),
)
_DERIVED_ROLES = ("writer", "app", "reader", "modeler", "orchestrator")
_lock = threading.Lock()
_known: tuple[str, ...] = ()
_pattern: re.Pattern[str] | None = None
_made_by: Callable[..., logging.LogRecord] | None = None


def redact(text: str) -> str:
    """`text` without the secrets that are known here, and without what looks like one."""
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text


def know(values: Iterable[str | None]) -> None:
    """Take these out from now on, whatever stands around them; as they are, and as addresses quote them."""
    global _known, _pattern
    with _lock:
        found = {form for value in values if value for form in (value, quote(value, safe=""), unquote(value))}
        _known = tuple(
            sorted({*_known, *(v for v in found if len(v) >= LEAST_KNOWN)}, key=lambda v: (-len(v), v))
        )
        _pattern = re.compile("|".join(re.escape(value) for value in _known)) if _known else None


def secrets_of(settings: Settings) -> list[str]:
    """The secret values of the settings: of an address only its password, and what its query hides."""
    found: list[str] = []
    for name, setting in SETTINGS.items():
        value = getattr(settings, name, None)
        if not setting.secret or not isinstance(value, str):
            continue
        if "://" in value:
            parts = urlsplit(value)
            found += [parts.password or ""]
        else:
            found.append(value)
    return [value for value in found if value]


def install(settings: Settings) -> None:
    """From now on: log records, uncaught errors of this process and of its threads. May be called again."""
    from sluiceway.infra.keys import load_secret_key

    know(secrets_of(settings))
    if settings.secret_key is not None or (settings.home / "secret.key").exists():
        key = load_secret_key(settings)
        know([key.password(role) for role in _DERIVED_ROLES])
    hook()


def hook() -> None:
    """The nets alone, without any settings: for programs that are started by others."""
    global _made_by
    with _lock:
        if _made_by is not None:
            return
        _made_by = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_record)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def unhook() -> None:
    """Undo `hook` and forget what was known: for tests."""
    global _made_by, _known, _pattern
    with _lock:
        made_by, _made_by = _made_by, None
        _known, _pattern = (), None
    if made_by is not None:
        logging.setLogRecordFactory(made_by)
        sys.excepthook = sys.__excepthook__
        threading.excepthook = threading.__excepthook__


def _record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    assert _made_by is not None
    record = _made_by(*args, **kwargs)
    try:
        record.msg, record.args = redact(record.getMessage()), ()
    except Exception:  # the arguments do not fit the message: the handler will say so
        record.msg, record.args = redact(str(record.msg)), ()
    if record.exc_info and record.exc_info[1] is not None:
        lines = traceback.format_exception(*record.exc_info)
        record.exc_text = redact("".join(lines)).rstrip("\n")
    return record


def _uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, where))))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread is not None else "?"
    lines = traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback)
    sys.stderr.write(f"in thread {name}:\n{redact(''.join(lines))}")
