"""The canvas's pure functions, tested in their own language by Node's test runner."""

import os
import re
import subprocess

from dashboards_app.canvas import FOLDER
from dashboards_app.canvas.build import node_program


def test_the_javascript_tests_pass() -> None:
    files = sorted(str(path) for path in (FOLDER / "test").glob("*.test.js"))
    assert len(files) >= 4
    environment = {key: value for key, value in os.environ.items() if key != "NODE_OPTIONS"}
    done = subprocess.run(
        [str(node_program()), "--test", "--test-reporter=spec", *files],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"pass (\d+)", done.stdout)
    assert passed and int(passed[1]) >= 30
