"""`sluiceway verify` as a person uses it: exit codes, words, JSON, and waiting for the spools."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database
from sluiceway.infra.settings import Settings
from sluiceway.runtime import cli
from sluiceway.verification.drain import look, wait_until_drained
from sluiceway.verification.ledger import Ledger
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.installation import Installation
from tests.support.loading import ORDERS, order, query

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def installed(database: Database, settings: Settings) -> Iterator[Installation]:
    """20 orders in the places where the command looks; the ledger is a file."""
    found = Installation(database, settings.spool_dir, settings, clock=SystemClock())
    found.accept([order(n) for n in range(20)])
    found.settle()
    yield found
    found.close()


@pytest.fixture
def ledger(tmp_path: Path, installed: Installation) -> Path:
    path = tmp_path / "ledger.ndjson"
    with Ledger(path, "orders").writer() as writer:
        writer.add(entry.event_id for entry in installed.ledger)
    return path


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sluiceway verify` in this process: exit code, standard output, standard error."""
    assert settings.database_url is not None and settings.secret_key is not None
    monkeypatch.setenv("SLUICEWAY_HOME", str(settings.home))
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SLUICEWAY_SECRET_KEY", settings.secret_key)
    monkeypatch.setenv("SLUICEWAY_NODE", settings.node)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluiceway", "verify", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        code = ended.value.code
        return code if isinstance(code, int) else 0, output.out, output.err

    return call


def test_a_whole_ledger(run: Run, ledger: Path) -> None:
    code, out, err = run("--ledger", str(ledger))
    assert (code, err) == (0, "")
    assert "orders: 20 acknowledged ids" in out and "gold: not built: 1m, 1h, 1d" in out
    assert out.endswith("Nothing is missing and nothing is doubled.\n")
    code, out, _ = run("--pipeline", "orders", "--json")
    document = json.loads(out)
    assert (code, document["passed"]) == (0, True)
    assert document["pipelines"][0]["layers"]["silver"]["checked"] == 20


def test_what_is_missing_is_named_and_the_exit_code_says_so(run: Run, ledger: Path) -> None:
    with ledger.open("a") as file:
        file.write('{"pipeline": "orders", "event_id": "never-came"}\n')
    code, out, _ = run("--ledger", str(ledger))
    assert code == 1
    assert "silver, missing: never-came" in out
    assert out.endswith("Not whole: orders: bronze 1 missing; orders: silver 1 missing.\n")


def test_what_is_extra_fails_only_if_asked(run: Run, tmp_path: Path, ledger: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("\n".join(f"o-{n}" for n in range(19)))
    code, out, _ = run("--ledger", str(plain), "--pipeline", "orders")
    assert code == 0 and "2 are extra" in out
    assert run("--ledger", str(plain), "--pipeline", "orders", "--exact")[0] == 1


def test_a_consumers_list_is_compared(run: Run, tmp_path: Path, ledger: Path) -> None:
    got = tmp_path / "got.csv"
    got.write_text("seq,event_id\n" + "".join(f"{n + 1},o-{n}\n" for n in range(20) if n != 3))
    code, out, _ = run("--consumer", str(got), "--pipeline", "orders")
    assert code == 1 and "consumer, missing: seq 4 o-3" in out


def test_wrong_input_is_one_line_and_exit_code_2(run: Run, ledger: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("a\n")
    code, _, err = run("--ledger", str(bad))
    assert (code, err.count("\n")) == (2, 1) and "bad, line 1" in err
    code, _, err = run("--ledger", str(tmp_path / "nothing"))
    assert code == 2 and "cannot be read" in err
    code, _, err = run("--from", "2026-02-02", "--to", "2026-02-01")
    assert code == 2 and "should lie after" in err
    assert run("--pipeline", "nothing")[0] == 1


def test_what_waits_in_the_spool_is_told(run: Run, installed: Installation, ledger: Path) -> None:
    installed.accept([order(50)])
    code, out, err = run("--ledger", str(ledger), "--wait", "0.01")
    assert code == 0
    assert "events of node test still wait to be loaded and to be written to the lake" in err
    installed.load()
    code, out, err = run("--pipeline", "orders", "--wait", "0.01")
    assert code == 0 and "bronze: 1 wait to be written to the lake" in out
    assert "still wait to be written to the lake" in err
    installed.flush()
    assert run("--pipeline", "orders", "--wait", "30")[1:] == (run("--pipeline", "orders")[1], "")


def test_waiting_ends_when_the_spools_are_empty(installed: Installation, settings: Settings) -> None:
    spools = settings.spool_dir.parent
    assert [state.drained for state in look(installed.database, spools)] == [True]
    installed.accept([order(n) for n in range(60, 70)])
    assert [state.drained for state in look(installed.database, spools)] == [False]
    states: list[bool] = []
    waiting = threading.Thread(
        target=lambda: states.extend(
            state.drained for state in wait_until_drained(installed.database, spools, 60)
        )
    )
    waiting.start()
    installed.settle()
    waiting.join(60)
    assert states == [True]
    assert query(installed.database, "SELECT count(*) FROM silver.orders") == [(30,)]


def test_a_machine_without_spools_has_nothing_to_wait_for(database: Database, tmp_path: Path) -> None:
    assert look(database, tmp_path / "nothing") == []
    assert wait_until_drained(database, tmp_path / "nothing", 1) == []


def test_a_ledger_from_which_nothing_follows_proves_nothing(
    run: Run, ledger: Path, tmp_path: Path, installed: Installation
) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.touch()
    code, out, err = run("--ledger", str(empty))
    assert (code, out) == (2, "") and "names no event" in err
    apply_pipeline(installed.database, 1, ORDERS.replace("name: orders", "name: others"))
    code, out, err = run("--ledger", str(ledger), "--pipeline", "others")
    assert (code, out) == (2, "") and "names no event of others, only of orders" in err
    with Ledger(ledger, "others").writer() as writer:
        writer.add("never-sent")
    code, out, _ = run("--ledger", str(ledger), "--pipeline", "orders")
    assert code == 0 and "Not looked at, though the ledger names it: others." in out
    code, out, _ = run("--ledger", str(ledger))
    assert code == 1 and "others: silver 1 missing" in out
