"""examples/sender.py against the running platform: what it wrote down is what silver holds."""

import subprocess
import sys
from pathlib import Path

from sluiceway.verification.ledger import Ledger
from sluiceway.verification.service import verify
from sluiceway.warehouse.schema import apply_pipeline
from tests.support.platform import ROOT, RunningPlatform

EVENTS = 350


def test_the_sample_senders_ledger_is_whole(platform: RunningPlatform, tmp_path: Path) -> None:
    apply_pipeline(platform.database, 1, (ROOT / "examples" / "orders.yml").read_text())
    path = tmp_path / "ledger.ndjson"
    command = [sys.executable, "examples/sender.py", "--url", platform.url, "--key", platform.ingest_key]
    command += ["--events", str(EVENTS), "--batch", "100", "--ledger", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{EVENTS} events acknowledged, ")
    platform.wait_for_rows("orders", EVENTS)
    report = verify(platform.database, None, Ledger(path))
    assert report.passed(exact=True), report.as_dict()
    found = report.pipeline("orders")
    assert (found.acknowledged, found.layer("silver").checked) == (EVENTS, EVENTS)
    refused = subprocess.run(
        [*command, "--pipeline", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert refused.returncode == 1 and "refused: 404" in refused.stderr
