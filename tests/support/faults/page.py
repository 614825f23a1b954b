"""Writes what `make faults` found into the table of `docs/faults.md`: `python -m tests.support.faults.page`.

The results are kept beside the tests, so that a test can tell whether the page says what was found.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "tests" / "faults" / "results.json"
PAGE = ROOT / "docs" / "faults.md"
BEGIN, END = "<!-- results: begin (made by make faults) -->", "<!-- results: end -->"


def table(results: dict[str, object]) -> str:
    """The results as Markdown."""
    lines = ["| fault | times | acknowledged ids | lost | doubled |", "|---|---:|---:|---:|---:|"]
    found = results["faults"]
    assert isinstance(found, list)
    for line in found:
        ids = f"{line['acknowledged']:,}" if line["acknowledged"] else ""
        rest = f"{line['lost']:,} | {line['doubled']:,}" if ids else "|"
        lines.append(f"| {line['fault']} | {line['times']:,} | {ids} | {rest} |")
    return "\n".join(lines)


def with_table(page: str, results: dict[str, object]) -> str:
    """The page with the table of these results between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE} has no marks for the results"
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def main() -> int:
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(with_table(PAGE.read_text(), results))
    print(f"{PAGE.relative_to(ROOT)}: {len(results['faults'])} kinds of fault")
    return 1 if results["failed_tests"] else 0


if __name__ == "__main__":
    sys.exit(main())
