"""The command line as a person uses it: output, exit codes, and one clear line for what goes wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sluiceway.identity.keys import authenticate
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.lake.bronze import rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName
from sluiceway.lake.service import Lake
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, record
from tests.support.command_line import Run

EXAMPLES = Path(__file__).parents[3] / "examples" / "pipelines"


def test_key_create_prints_the_key_and_nothing_else(run: Run, database: Database) -> None:
    assert run("apply", str(EXAMPLES / "nyc-flights.yml"))[0] == 0
    code, out, err = run("key", "create", "--pipeline", "nyc-flights", "--scope", "ingest")
    assert (code, err) == (0, "")
    assert out.startswith("slw_") and out.endswith("\n") and len(out.split()) == 1
    with database.transaction(Role.APP, workspace_id=1) as connection:
        caller = authenticate(connection, out.strip(), now=SystemClock().now())
    assert caller.pipeline_ids is not None and len(caller.pipeline_ids) == 1
    code, listed, _ = run("key", "list")
    assert code == 0 and caller.key_id in listed and "nyc-flights" in listed
    assert out.strip().split("_")[2] not in listed
    assert run("key", "revoke", caller.key_id)[0] == 0
    assert "revoked" in run("key", "list")[1]


def test_a_key_may_be_made_with_a_rate(run: Run, database: Database) -> None:
    code, text, err = run("key", "create", "--scope", "ingest", "--rate", "2.5", "--burst", "7")
    assert (code, err) == (0, "")
    with database.transaction(Role.APP) as connection:
        caller = authenticate(connection, text.strip(), now=SystemClock().now())
    assert (caller.rate_per_s, caller.burst) == (2.5, 7)
    assert "2.5/s, burst 7" in run("key", "list")[1]
    code, out, err = run("key", "create", "--scope", "ingest", "--burst", "7")
    assert (code, out) == (2, "") and "rate" in err


def test_a_key_for_an_unknown_pipeline_is_one_line(run: Run) -> None:
    code, out, err = run("key", "create", "--pipeline", "nope", "--scope", "ingest")
    assert (code, out) == (1, "")
    assert err == "sluiceway: There is no pipeline 'nope' in this workspace.\n"


def test_apply_says_what_changed_and_export_gives_it_back(run: Run, tmp_path: Path) -> None:
    source = (EXAMPLES / "nyc-weather.yml").read_text()
    assert run("apply", "-", stdin=source)[1] == "Pipeline nyc-weather: created, version 1\n"
    assert run("apply", "-", stdin=source)[1] == "Pipeline nyc-weather: unchanged, version 1\n"
    assert run("export", "nyc-weather")[1].strip() == source.strip()
    code, out, _ = run("export", "--into", str(tmp_path / "out"))
    assert code == 0 and (tmp_path / "out" / "nyc-weather.yml").read_text() == source
    assert "nyc-weather.yml" in out


def test_a_wrong_file_names_field_and_line(run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("kind: Pipeline\nname: x1\nfields:\n  - {name: a, type: text}\nspeed: 1\n")
    code, out, err = run("apply", str(wrong), str(EXAMPLES / "nyc-weather.yml"))
    assert code == 2
    assert f"{wrong}:4: fields.0.type" in err and f"{wrong}:5: speed" in err
    assert "nyc-weather: created" in out  # the others are applied
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a: [", "-:1: expected the node content"),
        ("a: 1\n---\nb: 2", "-:2: another document begins here"),
        ("kind: Nothing", "kind should be one of"),
        ("- 1", "kind should be one of"),
    ],
)
def test_a_file_of_no_kind(run: Run, content: str, told: str) -> None:
    code, _, err = run("apply", "-", stdin=content)
    assert code == 2 and told in err


def test_people(run: Run) -> None:
    code, out, _ = run("user", "create", "ann@example.org", "--role", "editor", "--password-stdin",
                       stdin="correct horse battery\n")  # fmt: skip
    assert code == 0 and "ann@example.org" in out
    assert "editor" in run("user", "list")[1]
    assert run("user", "disable", "ANN@example.org")[0] == 0
    assert "disabled" in run("user", "list")[1]
    assert run("user", "enable", "ann@example.org")[0] == 0
    assert run("user", "password", "ann@example.org", "--password-stdin", stdin="another long one\n")[0] == 0
    code, _, err = run("user", "disable", "bob@example.org")
    assert code == 1 and "Nobody has the address bob@example.org" in err
    code, _, err = run("user", "create", "bad", "--password-stdin", stdin="x\n")
    assert code == 2 and "email should be" in err and "password should have" in err


def test_schemas_are_printed(run: Run) -> None:
    for kind in ("pipeline", "suite", "dashboard"):
        code, out, _ = run("schema", kind)
        assert code == 0 and json.loads(out)["$schema"].endswith("2020-12/schema")
    assert run("schema", "nothing")[0] == 2


def test_db_url_is_the_address(run: Run, settings: Settings) -> None:
    assert run("db-url")[1].strip() == settings.database_url


def test_a_wrong_setting_names_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_PORT", "eighty")
    code, _, err = run("db-url")
    assert (code, err.count("\n")) == (2, 1)
    assert "SLUICEWAY_PORT should be a whole number from 1 to 65535, not 'eighty'" in err
    monkeypatch.delenv("SLUICEWAY_PORT")
    monkeypatch.setenv("SLUICEWAY_PROT", "80")
    assert "SLUICEWAY_PROT is not a setting" in run("db-url")[2]


def test_a_database_that_does_not_answer_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", "postgresql://postgres:hidden@127.0.0.1:1/none")
    code, _, err = run("key", "list")
    assert (code, err.count("\n")) == (1, 1)
    assert "SLUICEWAY_DATABASE_URL" in err and "hidden" not in err


def test_replay_of_days_the_wrong_way_round(run: Run) -> None:
    code, _, err = run("replay", "nyc-flights", "--from", "2026-02-02", "--to", "2026-02-01")
    assert code == 2 and "lies before" in err


def test_doctor_finds_a_migrated_database_in_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEWAY_PORT", "1")  # nobody listens there
    _, out, _ = run("doctor")
    assert "✓ database: PostgreSQL" in out and "the newest" in out and "✓ database roles" in out


def test_doctor_names_a_damaged_object_of_the_lake(
    run: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_PORT", "1")
    assert run("apply", str(EXAMPLES / "nyc-flights.yml"))[0] == 0
    name = BronzeName("bronze/w1/nyc-flights", DAY, "n", record(0).position, record(0).end)
    lake = Lake(settings)
    lake.put(name, to_parquet(rows_of("n", [record(0)], split)))
    assert "✓ bronze: 1 objects were read, all are whole" in run("doctor", "--lake")[1]
    lake.put(name, b"PAR1 and nothing else")
    for arguments in (["doctor"], ["doctor", "--lake"]):
        code, out, _ = run(*arguments)
        assert code == 1
        assert f"✗ bronze: {name.path} cannot be read" in out and "all are whole" not in out


def test_the_program_starts_without_heavy_imports() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "sluiceway.runtime.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    heavy = {"sqlalchemy", "pandas", "polars", "dagster", "streamlit", "great_expectations", "dbt", "fastapi"}
    assert imported & heavy == set()
