"""Secrets that the whole suite plants, and a search for them in everything it puts out.

Planted are the tests' installation key and what is derived from it, their passwords, and every random token
that is made while they run (keys, sessions, links). Searched are all log records of this process, what tests
print, every answer of the API that a test sees, and every file that a process or a test leaves in the tests'
folders: there a secret may stand only in a file that nobody else can read. A find fails the run at its end.
"""

import logging
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra.database import SERVICE_ROLES
from sluiceway.infra.keys import SecretKey

TEST_KEY = "a key for tests only, long enough to pass"
PASSWORDS = ("correct horse battery", "a secret of the test")
LEAST_TOKEN = 32
MOST_BYTES = 20_000_000
_WORD = re.compile(rf"[A-Za-z0-9_-]{{{LEAST_TOKEN},}}")
_TEXTS = (
    ".log",
    ".txt",
    ".json",
    ".jsonl",
    ".out",
    ".err",
    ".yaml",
    ".yml",
    ".html",
    ".csv",
    ".1",
    ".2",
    ".3",
)
_SKIPPED = ("node_modules", "data", "pg_wal")  # a database's own files hold what it is there to hold


class Planted:
    """What is planted, and what was found where it should not be."""

    def __init__(self) -> None:
        key = SecretKey(TEST_KEY.encode())
        self.values = (TEST_KEY, *PASSWORDS, *(key.password(role.value) for role in SERVICE_ROLES))
        self.tokens: set[str] = set()
        self.found: list[str] = []
        self.searched = 0

    def in_text(self, text: str, *, tokens: bool = True) -> list[str]:
        """The planted secrets that stand in `text`."""
        self.searched += 1
        found = [value for value in self.values if value in text]
        if tokens:
            for match in _WORD.finditer(text):
                word = match[0]
                # A token follows its key's prefix, or stands alone.
                found += {part for part in (word, word[-43:], word[-64:], word[-32:]) if part in self.tokens}
        return found

    def report(self, where: str, text: str, *, tokens: bool = True) -> None:
        for secret in self.in_text(text, tokens=tokens):
            self.found.append(f"{where}: {secret[:6]}… in {_around(text, secret)}")

    def check_answer(self, request: Any, answer: Any) -> None:
        """An answer of the API: no planted value ever; a token only where it is made, or from who sent it."""
        text = answer.text
        shown = self.in_text(text)
        if not shown:
            return
        body = getattr(request, "_content", b"")  # a body that is a stream is gone
        sent = f"{request.url} {dict(request.headers)} {body.decode('utf-8', 'replace')}"
        # Whose password was right goes on with a token of that step: the one refusal that gives one.
        goes_on = answer.status_code == 401 and '"code":"second_factor_required"' in text
        made = request.method == "POST" and (answer.status_code < 300 or goes_on)
        for secret in shown:
            if secret in self.tokens and (made or secret in sent):
                continue
            self.found.append(f"{request.method} {request.url} {answer.status_code}: {_around(text, secret)}")

    def search_files(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.suffix not in _TEXTS or any(part in _SKIPPED for part in path.parts):
                continue
            try:
                found = path.stat()
                if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
                    continue
                if stat.S_IMODE(found.st_mode) & 0o077 == 0:
                    continue
                self.report(str(path), path.read_text(errors="replace"))
            except OSError:
                continue


PLANTED = Planted()


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return repr(text[max(0, at - 60) : at] + "<…>" + text[at + len(secret) : at + len(secret) + 30])


class _Listener(logging.Handler):
    """Every record, as a handler of a process would write it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # the arguments do not fit: other handlers say so
            return
        PLANTED.report(f"log {record.name}", text)


def pytest_configure(config: pytest.Config) -> None:
    """Have every token that is made remembered."""
    for name in ("token_urlsafe", "token_hex"):
        setattr(secrets, name, _remembering(getattr(secrets, name)))


def _remembering(make: Callable[[int | None], str]) -> Callable[..., str]:
    def made(nbytes: int | None = None) -> str:
        found = make(nbytes)
        if len(found) >= LEAST_TOKEN:
            PLANTED.tokens.add(found)
        return found

    return made


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.passed:
        for name, text in report.sections:
            # Commands print a new key: that is what they are for.
            PLANTED.report(f"{report.nodeid} {name}", text, tokens="stdout" not in name)


@pytest.fixture(scope="session", autouse=True)
def _planted_secrets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    listener = _Listener()
    listener.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(listener)
    yield
    root.removeHandler(listener)
    PLANTED.search_files(tmp_path_factory.getbasetemp())
    assert PLANTED.found == [], "planted secrets were put out"
