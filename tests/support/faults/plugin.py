"""What fault tests found, counted: a table at the end of a run, and a file of results when asked for.

A test says what it saw by the fixture `fault`; that travels with its report, so it also comes from the
processes of pytest-xdist. Not here: the page that shows the results (`tests.support.faults.page`).
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

PROPERTY = "fault"


@dataclass
class Line:
    """One kind of fault: how often it was done, how many ids were acknowledged meanwhile, what went wrong."""

    fault: str
    times: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0

    def add(self, other: dict[str, Any]) -> None:
        for name in ("times", "acknowledged", "lost", "doubled"):
            setattr(self, name, getattr(self, name) + int(other[name]))


Record = Callable[..., None]
LONG = bool(os.environ.get("FAULT_LONG"))
"""Whether the long variants are run (`make faults`)."""


def seeds(default: int) -> range:
    """Which seeds are run: `FAULT_SEEDS=n` the first n, `FAULT_SEEDS=a-b` those from a to below b,
    `FAULT_SEED=n` the one."""
    if one := os.environ.get("FAULT_SEED"):
        return range(int(one), int(one) + 1)
    begin, dash, end = os.environ.get("FAULT_SEEDS", str(default)).partition("-")
    return range(int(begin), int(end)) if dash else range(int(begin))


@pytest.fixture
def fault(record_property: Callable[[str, object], None]) -> Record:
    """`fault(name, times=…, acknowledged=…, lost=…, doubled=…)`: one line of the table, summed over tests."""

    def record(name: str, *, times: int, acknowledged: int, lost: int = 0, doubled: int = 0) -> None:
        record_property(PROPERTY, asdict(Line(name, times, acknowledged, lost, doubled)))

    return record


def collect(reports: list[Any]) -> list[Line]:
    """The lines of all reports, by fault, in the order of their names."""
    lines: dict[str, Line] = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", []):
            if name == PROPERTY:
                lines.setdefault(value["fault"], Line(value["fault"])).add(value)
    return sorted(lines.values(), key=lambda line: line.fault)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-results", type=Path, help="write what fault tests found to this JSON file")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [r for key in ("passed", "failed") for r in terminalreporter.stats.get(key, [])]
    lines = collect([r for r in reports if getattr(r, "when", None) == "call"])
    if not lines:
        return
    terminalreporter.section("faults")
    width = max(len(line.fault) for line in lines)
    terminalreporter.write_line(f"{'':{width}}  {'times':>8} {'acknowledged':>13} {'lost':>6} {'doubled':>8}")
    for line in lines:
        terminalreporter.write_line(
            f"{line.fault:{width}}  {line.times:8,} {line.acknowledged:13,} {line.lost:6,} {line.doubled:8,}"
        )
    path: Path | None = config.getoption("--fault-results")
    if path is not None:
        failed = len(terminalreporter.stats.get("failed", []))
        document = {"failed_tests": failed, "faults": [asdict(line) for line in lines]}
        path.write_text(json.dumps(document, indent=1) + "\n")
