"""Writes what benchmarks found into `docs/benchmarks.md`: `python -m benchmarks.page`, and after each run."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parent / "docs" / "benchmarks.md"
RESULTS = FOLDER / "results.json"
BEGIN, END = "<!-- results: begin (made by make bench) -->", "<!-- results: end -->"


def figure(value: float | None) -> str:
    """As in tables: whole from a hundred on, else three digits."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def results_as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """A table of all benchmarks, then each by itself with what was done and what was found beside."""
    lines = [
        "| benchmark | ours | limit | peer | unit | of the limit | of the peer |",
        "|---|---:|---:|---:|---|---:|---:|",
    ]
    for name, found in sorted(results.items()):
        figures = [figure(found[key]) for key in ("ours", "limit", "peer")]
        ratios = [figure(found[key]) for key in ("of_limit", "of_peer")]
        link = f"[`{name}`](#{name})"
        lines.append(f"| {' | '.join([link, *figures, str(found['unit']), *ratios])} |")
    for name, found in sorted(results.items()):
        about = (import_module(f"benchmarks.{name}").__doc__ or "").strip().partition(": ")[2]
        sentence = " ".join(about.partition("\n\n")[0].split())
        lines += ["", f"### {name}", sentence[:1].upper() + sentence[1:], "", _detail(found["detail"])]
    return "\n".join(lines)


def _detail(found: Any) -> str:
    """A sentence as it is; of named figures a list, those within one in brackets."""
    if not isinstance(found, dict):
        return str(found)
    parts = []
    for name, value in found.items():
        inner = f" ({_detail(value)})" if isinstance(value, dict) else f" {value}"
        parts.append(f"{str(name).replace('_', ' ')}{inner}")
    return ", ".join(parts)


def with_results(page: str, results: dict[str, dict[str, Any]]) -> str:
    """The page with these results between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{PAGE} has no marks for the results"
    return f"{before}{BEGIN}\n{results_as_markdown(results)}\n{END}{after}"


def write() -> None:
    PAGE.write_text(with_results(PAGE.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    write()
