"""How tests are shared out: whole modules and groups in one process, what takes long first."""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.support.distribution import PLATFORM, TIMESCALE, rank, unit_of

ROOT = Path(__file__).parents[3]
SAMPLE = "import time, pytest\n@pytest.mark.parametrize('n', range({count}))\ndef test_it(n): {body}\n"
DEAR = """\
import pytest
@pytest.fixture(scope="session")
def timescale_built(): ...
"""


def test_modules_and_groups_stay_together_and_what_takes_long_begins(tmp_path: Path) -> None:
    modules = {
        "unit/test_small": SAMPLE.format(count=2, body="pass"),
        "unit/test_large": SAMPLE.format(count=5, body="pass"),
        "integration/test_many": SAMPLE.format(count=6, body="time.sleep(0.01)"),
        "integration/test_dear_one": "def test_it(timescale_built: None): pass\n",
        "integration/test_dear_two": "def test_it(timescale_built: None): pass\ndef test_cheap(): pass\n",
        "e2e/test_first": SAMPLE.format(count=3, body="time.sleep(0.05)"),
        "e2e/test_second": SAMPLE.format(count=3, body="time.sleep(0.05)"),
    }
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "conftest.py").write_text(DEAR)
    for name, source in modules.items():
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    command = [
        sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-v",
        "-p", "tests.support.distribution", "-p", "no:cacheprovider",
        "--import-mode=importlib", "--basetemp", str(tmp_path / "temp"), "-c", "/dev/null",
        "--rootdir", str(tmp_path), "tests",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.findall(r"\[(gw\d)\].* PASSED (\S+)", done.stdout)
    assert len(ran) == 22
    units = [(worker, unit_of(tmp_path, test.partition("::")[0])) for worker, test in ran]
    where = defaultdict(set)
    for worker, unit in units:
        where[unit].add(worker)
    assert all(len(workers) == 1 for workers in where.values()), where
    assert set(where) == {
        PLATFORM, TIMESCALE, "tests/integration/test_many.py", "tests/unit/test_large.py",
        "tests/unit/test_small.py",
    }  # fmt: skip
    begun = dict(reversed(units))  # the first of each
    assert set(begun.values()) == {PLATFORM, TIMESCALE}, "each process begins with what takes longest"


def test_what_takes_long_stands_before_what_does_not() -> None:
    units = {
        "tests/unit/kit/test_a.py": 9, "tests/lint/test_rules.py": 500, "tests/integration/api/test_a.py": 3,
        "tests/integration/api/test_b.py": 7, TIMESCALE: 6, "tests/faults/test_a.py": 1, PLATFORM: 70,
        "elsewhere.py": 1,
    }  # fmt: skip
    assert sorted(units, key=lambda unit: rank(unit, units[unit])) == [
        PLATFORM, TIMESCALE, "tests/faults/test_a.py", "tests/integration/api/test_b.py",
        "tests/integration/api/test_a.py", "tests/unit/kit/test_a.py", "tests/lint/test_rules.py",
        "elsewhere.py",
    ]  # fmt: skip
