"""Files, senders' secrets, replays and proofs of a workspace that is not the first one."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from sluiceway.catalog.contracts import Pipeline
from sluiceway.catalog.errors import PipelineNotFound
from sluiceway.catalog.service import Catalog
from sluiceway.infra.database import Database, Role
from sluiceway.infra.settings import Settings
from sluiceway.lake.bronze import rows_of, to_parquet
from sluiceway.lake.contracts import BronzeName, prefix_of
from sluiceway.lake.service import Lake
from sluiceway.transforms.split import split
from tests.support.bronze import DAY, record
from tests.support.command_line import Run

PASSWORD = "violet otter climbs quietly"
SOURCE = """\
kind: Pipeline
name: deliveries
source: {verify: {scheme: github}}
fields:
  - {name: n, type: number}
"""


@pytest.fixture
def room(run: Run, database: Database) -> int:
    """A second workspace, with the pipeline `deliveries`, which the first has not."""
    owner = "ann@example.com"
    assert run("user", "create", owner, "--role", "owner", "--password-stdin", stdin=PASSWORD + "\n")[0] == 0
    code, _, err = run("workspace", "create", "North", "--slug", "north", "--owner", owner)
    assert code == 0, err
    code, out, err = run("apply", "--workspace", "north", "-", stdin=SOURCE)
    assert (code, out) == (0, "Pipeline deliveries: created, version 1\n"), err
    with database.transaction(Role.OWNER) as connection:
        found: int = connection.execute(
            sa.text("SELECT id FROM app.workspaces WHERE slug = 'north'")
        ).scalar_one()
    return found


def pipeline_of(database: Database, room: int) -> Pipeline:
    with database.transaction(Role.APP, workspace_id=room) as connection:
        return Catalog().get(connection, room, "deliveries")


def test_files_are_applied_and_exported_where_they_belong(run: Run, database: Database, room: int) -> None:
    assert pipeline_of(database, room).workspace_id == room
    with pytest.raises(PipelineNotFound):
        pipeline_of(database, 1)
    assert run("export", "--workspace", "north")[1].strip() == SOURCE.strip()
    assert run("export", "deliveries")[0] == 1
    code, _, err = run("apply", "--workspace", "nowhere", "-", stdin=SOURCE)
    assert code == 1 and "There is no workspace 'nowhere'" in err


def test_senders_secrets_are_of_the_workspaces_pipeline(run: Run, room: int) -> None:
    of = ("--pipeline", "deliveries")
    assert run("secret", "add", *of, stdin="hush")[0] == 1
    code, out, err = run("secret", "add", *of, "--workspace", "north", stdin="hush")
    assert code == 0, err
    secret_id = out.split()[0]
    assert secret_id in run("secret", "list", *of, "--workspace", "north")[1]
    assert run("secret", "remove", secret_id, *of)[0] == 1
    assert run("secret", "remove", secret_id, *of, "--workspace", "north")[0] == 0
    assert secret_id not in run("secret", "list", *of, "--workspace", "north")[1]


def test_days_are_replayed_and_proven_where_they_belong(
    run: Run, database: Database, settings: Settings, room: int, tmp_path: Path
) -> None:
    first = record(0)
    name = BronzeName(prefix_of(pipeline_of(database, room)), DAY, "n", first.position, first.end)
    Lake(settings).put(name, to_parquet(rows_of("n", [first], split)))
    assert run("replay", "deliveries", "--from", str(DAY))[0] == 1
    code, out, err = run("replay", "deliveries", "--from", str(DAY), "--workspace", "north")
    assert code == 0, err
    assert out.startswith(f"{DAY}: 2 events, 0 rows replaced by 2")
    code, out, err = run("verify", "--workspace", "north", "--json")
    document = json.loads(out)
    assert (code, [p["pipeline"] for p in document["pipelines"]]) == (0, ["deliveries"]), err
    assert document["pipelines"][0]["layers"]["silver"]["checked"] == 2
    assert run("verify", "--pipeline", "deliveries")[0] == 1
