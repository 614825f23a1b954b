"""`sluiceway secret`: never as an argument, shown once, listed without values, gone when removed."""

from sluiceway.catalog.service import Catalog
from sluiceway.infra.clock import SystemClock
from sluiceway.infra.database import Database, Role
from sluiceway.ingestion.senders.secrets import active_secrets
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.command_line import Run

SIGNED = "name: deliveries\nsource: {verify: {scheme: github}}\nfields: [{name: a, type: string}]\n"


def active(database: Database) -> list[tuple[str, str]]:
    with database.transaction(Role.APP, workspace_id=1) as connection:
        pipeline = Catalog().get(connection, 1, "deliveries")
        found = active_secrets(connection, database.envelope, 1, pipeline.id, now=SystemClock().now())
    return [(s.value, s.purpose) for s in found]


def test_add_list_and_remove(run: Run, database: Database) -> None:
    apply_pipeline(database, 1, SIGNED)
    code, out, err = run("secret", "add", "--pipeline", "deliveries", "--name", "main", stdin="hush 4711\n")
    assert (code, err) == (0, "") and "4711" not in out
    first = out.split()[0]
    assert active(database) == [("hush 4711", "signature")]
    code, out, _ = run(
        "secret", "add", "--pipeline", "deliveries", "--generate", "--others-end-in-hours", "0"
    )
    assert code == 0 and len(out.split()) == 1
    assert active(database) == [(out.strip(), "signature")]
    code, token, _ = run("secret", "add", "--pipeline", "deliveries", "--purpose", "challenge", "--days", "2",
                         stdin="verify me")  # fmt: skip
    assert code == 0 and ("verify me", "challenge") in active(database)
    listed = run("secret", "list", "--pipeline", "deliveries")[1]
    assert first in listed and "expired" in listed and "challenge" in listed and "until" in listed
    assert "4711" not in listed and out.strip() not in listed
    assert run("secret", "remove", token.split()[0], "--pipeline", "deliveries")[0] == 0
    assert active(database) == [(out.strip(), "signature")]


def test_what_goes_wrong_is_one_line(run: Run, database: Database) -> None:
    apply_pipeline(database, 1, SIGNED.replace("github", "standard-webhooks"))
    code, out, err = run("secret", "add", "--pipeline", "deliveries", stdin="no base64 4711")
    assert (code, out) == (2, "") and "whsec_" in err and "4711" not in err
    code, _, err = run("secret", "list", "--pipeline", "nothing")
    assert code == 1 and err.count("\n") == 1
    code, _, err = run("secret", "remove", "0198c0de-0000-7000-8000-000000000001", "--pipeline", "deliveries")
    assert code == 1 and "no such secret" in err
    assert run("secret", "add", "--pipeline", "deliveries", "--purpose", "x", stdin="a")[0] == 2
