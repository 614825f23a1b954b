"""Writes what `make faults` found into the table of `docs/faults.md`: `python -m tests.support.faults.page`.

With files as arguments it first adds these up: a long run may be done in parts (`FAULT_SEEDS=0-250`). The
results are kept beside the tests, so that a test can tell whether the page says what was found.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.support.faults.plugin import Line

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "faults" / "results.json"
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- results: begin (made by make faults) -->", "<!-- results: end -->"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| fault | times | acknowledged ids | lost | doubled |", "|---|---:|---:|---:|---:|"]
    for line in results["faults"]:
        ids = f"{line['acknowledged']:,}" if line["acknowledged"] else ""
        rest = f"{line['lost']:,} | {line['doubled']:,}" if ids else "|"
        lines.append(f"| {line['fault']} | {line['times']:,} | {ids} | {rest} |")
    return "\n".join(lines)


def with_table(page: str, results: dict[str, Any]) -> str:
    """The page with the table of these results between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE} has no marks for the results"
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of several runs as those of one."""
    lines: dict[str, Line] = {}
    for part in parts:
        for line in part["faults"]:
            lines.setdefault(line["fault"], Line(line["fault"])).add(line)
    found = [asdict(lines[name]) for name in sorted(lines)]
    return {"failed_tests": sum(part["failed_tests"] for part in parts), "faults": found}


def main(files: list[str]) -> int:
    if files:
        parts = [json.loads(Path(file).read_text()) for file in files]
        RESULTS.write_text(json.dumps(merged(parts), indent=1) + "\n")
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(with_table(PAGE.read_text(), results))
    print(f"{PAGE.relative_to(ROOT)}: {len(results['faults'])} kinds of fault")
    return 1 if results["failed_tests"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
