"""Secrets are taken out of whatever a process writes, known ones and such as look like one."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluiceway.infra import redaction
from sluiceway.infra.settings import load_settings
from tests.support.planted import PASSWORDS, TEST_KEY, Planted

KEY = "slw_abcdefghijkm_" + "A1b2C3d4" * 5 + "xyz"
TOKEN = "qW3-rT5_" * 5 + "abc"


@pytest.fixture(autouse=True)
def unhooked() -> Iterator[None]:
    yield
    redaction.unhook()


@pytest.mark.parametrize(
    ("text", "secret", "stays"),
    [
        (f"refused {KEY} for orders", "A1b2C3d4", "refused slw_abcdefghijkm_*** for orders"),
        (f"Authorization: Bearer {TOKEN}", TOKEN, "Authorization:"),
        (
            "postgresql://owner:p%40ss-word@db.example:5432/x",
            "p%40ss-word",
            "postgresql://owner:***@db.example",
        ),
        (
            "could not reach smtp://u:hunter2hunter2@mail/",
            "hunter2hunter2",
            "could not reach smtp://u:***@mail/",
        ),
        (f"Cookie: a=1; sluiceway_session={TOKEN}; b=2", TOKEN, "***"),
        (f"GET /v1/pipelines/x/stream?token={TOKEN}&x=1", TOKEN, "x=1"),
        (f"GET /invitation/{TOKEN} failed", TOKEN, "GET /invitation/*** failed"),
        (f"GET /link/{TOKEN} failed", TOKEN, "GET /link/*** failed"),
        ("{'password': 'tr0ub4dor&3', 'name': 'ada'}", "tr0ub4dor&3", "'name': 'ada'"),
        ('"client_secret": "s3cr3t-of-idp", "issuer": "x"', "s3cr3t-of-idp", '"issuer": "x"'),
        ("connection failed: password=abc123 host=db", "abc123", "host=db"),
        ("SLUICEWAY_SECRET_KEY=0123456789abcdef", "0123456789abcdef", "SLUICEWAY_SECRET_KEY="),
        ("AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI", "wJalrXUtnFEMI", "AWS_SECRET_ACCESS_KEY:"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8G", "signed with whsec_***"),
        (f"id token eyJhbGciOiJIUzI1NiJ9.{TOKEN}.{TOKEN} refused", TOKEN, "refused"),
    ],
)
def test_what_looks_like_a_secret_goes(text: str, secret: str, stays: str) -> None:
    found = redaction.redact(text)
    assert secret not in found and redaction.HIDDEN in found and stays in found


@pytest.mark.parametrize(
    "text",
    [
        "batch node-1/3/20 of orders: 512 rows in 0.04 s, 3 tokens leased",
        "GET /v1/keys/abcdefghijkm 404 (request 0198c0de00007000800000000000abcd)",
        "https://example.com/path?x=1 answered 200",
        "secret 0198c0de-0000-7000-8000-000000000001 of pipeline 3 cannot be opened",
        "INSERT INTO app.api_keys (secret_hash) VALUES (%(hash)s)",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redaction.redact(text) == text


def test_known_values_go_wherever_they_stand() -> None:
    settings = load_settings(
        {
            "SLUICEWAY_HOME": "/nowhere",
            "SLUICEWAY_SECRET_KEY": TEST_KEY,
            "SLUICEWAY_DATABASE_URL": "postgresql://u:sw0rdfish%2Fx@db/x",
            "SLUICEWAY_S3_SECRET_ACCESS_KEY": "bucket-secret-1",
        }
    )
    redaction.install(settings)
    for secret in (TEST_KEY, "sw0rdfish/x", "sw0rdfish%2Fx", "bucket-secret-1"):
        assert redaction.redact(f"xx{secret}yy") == "xx***yy"


def test_records_are_clean_before_any_handler_sees_them(caplog: pytest.LogCaptureFixture) -> None:
    redaction.hook()
    log = logging.getLogger("sluiceway.test")
    log.error("key %s and %d", KEY, 3)
    log.error({"password": "hunter2hunter2"})
    log.error("%d of these", "not a number")
    try:
        raise ValueError(f"cannot use {KEY}")
    except ValueError:
        log.exception("it failed")
    assert "A1b2C3d4" not in caplog.text and "hunter2hunter2" not in caplog.text
    assert "key slw_abcdefghijkm_*** and 3" in caplog.text
    assert "Traceback" in caplog.text and "cannot use slw_abcdefghijkm_***" in caplog.text


def test_the_last_words_of_a_process_and_of_its_threads() -> None:
    program = (
        "import threading, logging, sys\n"
        "from sluiceway.runtime.processes.entry import run\n"
        "def main(settings):\n"
        f"    t = threading.Thread(target=lambda: 1 / int('{KEY}'))\n"
        "    t.start(); t.join()\n"
        f"    logging.getLogger('some.library').warning('talks to %s', 'https://u:hunter2-pw@host/')\n"
        f"    raise RuntimeError('cannot open ' + {TEST_KEY!r})\n"
        "run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"SLUICEWAY_SECRET_KEY": TEST_KEY, "SLUICEWAY_HOME": "/nowhere", "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1 and "RuntimeError: cannot open ***" in done.stderr
    assert "in thread" in done.stderr and "ValueError" in done.stderr and "talks to" in done.stderr
    for secret in (TEST_KEY, "A1b2C3d4", "-pw@"):
        assert secret not in done.stdout + done.stderr


def test_the_search_of_the_suite_finds_what_is_planted(tmp_path: Path) -> None:
    search = Planted()
    search.tokens.add(TOKEN)
    search.report("log", f"began with {TEST_KEY}")
    search.report("log", f"key slw_abcdefghijkm_{TOKEN}")
    search.report("stdout", f"slw_abcdefghijkm_{TOKEN}", tokens=False)
    (tmp_path / "a.log").write_text(f"password {PASSWORDS[0]}")
    (tmp_path / "private.json").write_text(TEST_KEY)
    (tmp_path / "private.json").chmod(0o600)
    search.search_files(tmp_path)
    (tmp_path / "a.log").unlink()  # the suite's own search comes by, too
    assert len(search.found) == 3
    assert TOKEN not in "".join(search.found) and TEST_KEY not in "".join(search.found)
