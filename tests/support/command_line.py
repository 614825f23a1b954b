"""`sluiceway` as people type it, in the test's own process, over the test's own database."""

import io
import sys
from collections.abc import Callable

import pytest

from sluiceway.infra.settings import Settings
from sluiceway.runtime import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sluiceway` in this process: exit code, standard output, standard error."""
    assert settings.database_url is not None and settings.secret_key is not None
    monkeypatch.setenv("SLUICEWAY_HOME", str(settings.home))
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SLUICEWAY_SECRET_KEY", settings.secret_key)

    def call(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluiceway", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    return call
