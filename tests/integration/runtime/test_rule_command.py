"""`sluiceway rule`, and rules among the files of `apply` and `export`."""

from pathlib import Path

import sqlalchemy as sa

from sluiceway.infra.database import Database, Role
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.command_line import Run
from tests.support.ruled import SALES

RULE = """\
kind: Rule
name: regions
pipeline: sales  # kept as written
except: [owner]
rows: region in user.regions
masks: [{field: email, as: hide}]
"""


def test_apply_list_show_and_delete(run: Run, database: Database, tmp_path: Path) -> None:
    file = tmp_path / "regions.yml"
    file.write_text(RULE)
    pipeline = tmp_path / "sales.yml"
    pipeline.write_text(SALES)
    # The rule is named first: it is applied after what it is on.
    code, out, err = run("apply", str(file), str(pipeline))
    assert (code, err) == (0, "") and out.splitlines() == [
        "Pipeline sales: created, version 1", "Rule regions: created, version 1",
    ]  # fmt: skip
    assert run("rule", "apply", str(file))[1] == "Rule regions: unchanged, version 1\n"
    file.write_text(RULE.replace("hide", "hash"))
    assert run("rule", "apply", str(file))[1] == "Rule regions: updated, version 2\n"
    listed = run("rule", "list")[1]
    assert "everyone but owner" in listed and "region in user.regions; email: hash" in listed
    assert run("rule", "show", "regions")[1] == file.read_text()
    assert run("export", "--kind", "rule")[1] == file.read_text()
    assert run("rule", "delete", "regions") == (0, "regions is deleted.\n", "")
    versions = run("rule", "versions", "regions")[1].splitlines()
    assert [line.split()[0] for line in versions] == ["3", "2", "1"] and versions[0].endswith("deleted")
    with database.transaction(Role.APP, workspace_id=1) as connection:
        told = connection.execute(
            sa.text("SELECT action FROM app.audit_entries WHERE action LIKE 'rule.%' ORDER BY seq")
        ).scalars()
        assert list(told) == ["rule.created", "rule.changed", "rule.deleted"]


def test_what_is_wrong_with_a_rule_is_one_line(run: Run, database: Database, tmp_path: Path) -> None:
    apply_pipeline(database, 1, SALES)
    file = tmp_path / "regions.yml"
    for wrong, words in (
        (RULE.replace("region in", "regoin in"), "'regoin' is not a field"),
        (RULE.replace("sales", "purchases"), "this workspace"),
        (RULE.replace("rows: region in user.regions", "rows: region in"), "`(`"),
    ):
        file.write_text(wrong)
        code, out, err = run("rule", "apply", str(file))
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1
        code, out, err = run("apply", str(file))
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1
    code, _, err = run("rule", "delete", "nothing")
    assert code == 1 and "There is no rule" in err
    assert run("rule", "list", "--workspace", "nowhere")[0] == 1
