"""How tests are shared out among the processes of pytest-xdist: whole modules, what takes long first.

What the tests of a module share (a browser, a loaded database) is then made once and not in every process,
and so is what a group of modules shares (the platform of the browser tests, TimescaleDB). At the end no
process is left with a long module while the others have nothing: what comes last takes a moment.

xdist's own groups are no help: it writes them into a private field of a test that pytest no longer reads, so
that without a word no test has a group.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

FAMILIES = ("e2e", "faults", "security", "contract", "integration", "unit", "lint")
"""The folders of tests/ in the order in which they are begun: what takes long stands before what does not."""
PLATFORM, TIMESCALE = "the platform", "TimescaleDB"
_TIMESCALE = re.compile(r"\btimescale(_built)?: ")


@cache
def unit_of(root: Path, module: str) -> str:
    """What is given to one process as a whole: the module, or the group of those for which something dear is
    started. `module`: its path below `root`."""
    if module.startswith("tests/e2e/"):
        return PLATFORM
    path = root / module
    return TIMESCALE if path.exists() and _TIMESCALE.search(path.read_text()) else module


def rank(unit: str, tests: int) -> tuple[bool, int, int]:
    """Where a unit stands: groups, then the folders' order, then those with most tests."""
    folder = unit.split("/")[1] if unit.count("/") > 1 else ""
    family = FAMILIES.index(folder) if folder in FAMILIES else len(FAMILIES)
    return (unit not in (PLATFORM, TIMESCALE), family, -tests)


class WholeUnits(LoadScopeScheduling):
    """One unit after the other, in the order of their ranks."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(self.config.rootpath, nodeid.partition("::")[0])

    def _assign_work_unit(self, node: Any) -> None:
        if not any(self.assigned_work.values()):  # nothing was given to anybody yet
            units = sorted(self.workqueue.items(), key=lambda unit: rank(unit[0], len(unit[1])))
            self.workqueue.clear()
            self.workqueue.update(units)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WholeUnits | None:
    return WholeUnits(config, log) if config.getvalue("dist") == "loadgroup" else None
