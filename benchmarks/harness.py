"""Runs benchmarks one after another, prints their table and keeps it in `results.json`.

A benchmark is a module in this folder with `run() -> dict`: `ours`, `limit`, `peer` (numbers, or None with
the reason in `detail`), `unit`, `detail`; optional: `lower_is_better` (times and sizes), and `of_limit` or
`of_peer` where the ratio is not simply that of the figures. Each runs in a process of its own, so that one's
imports and memory do not weigh on the next.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import page
from benchmarks.page import figure

FOLDER, RESULTS = page.FOLDER, page.RESULTS
KEYS = ("ours", "limit", "peer", "unit", "of_limit", "of_peer", "detail")


def names() -> list[str]:
    """The benchmarks that are there: modules that define `run`."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if "\ndef run() ->" in p.read_text())


def measure(name: str) -> dict[str, Any]:
    """Run one benchmark in a process of its own. Raises `RuntimeError` if it fails."""
    with tempfile.TemporaryDirectory(prefix="sluiceway-bench-") as folder:
        answer = Path(folder) / "result.json"
        code = "import sys; from benchmarks.harness import run_child; run_child(*sys.argv[1:])"
        child = subprocess.Popen([sys.executable, "-c", code, name, str(answer)], cwd=FOLDER.parent)
        try:
            exit_code = child.wait()
        finally:
            child.terminate()  # told to stop ourselves: it has servers and folders to clear away
            child.wait()
        if exit_code != 0 or not answer.exists():
            raise RuntimeError(f"benchmark {name} failed with exit code {exit_code}")
        return with_ratios(json.loads(answer.read_text()))


def run_child(name: str, answer: str) -> None:
    """In the benchmark's own process: run it and leave its result in the file `answer`."""
    exit_on_sigterm()
    found = import_module(f"benchmarks.{name}").run()
    Path(answer).write_text(json.dumps(found))


def exit_on_sigterm() -> None:
    """Unwind, so that servers stop and folders go; a second signal does not disturb that."""

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, leave)


def with_ratios(found: dict[str, Any]) -> dict[str, Any]:
    """The result as it is kept. Ratios above 1 are better than what is compared with."""
    lower = bool(found.get("lower_is_better", False))
    for other in ("limit", "peer"):
        if f"of_{other}" not in found:
            found[f"of_{other}"] = ratio(found["ours"], found.get(other), lower_is_better=lower)
    return {key: found.get(key) for key in KEYS}


def ratio(ours: float | None, other: float | None, *, lower_is_better: bool) -> float | None:
    if not ours or not other:
        return None
    return round(other / ours if lower_is_better else ours / other, 3)


def keep(results: dict[str, dict[str, Any]]) -> None:
    """Merge into the results of earlier runs."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    merged = dict(sorted((known | results).items()))
    fresh = RESULTS.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(merged, indent=2, ensure_ascii=False) + "\n")
    fresh.replace(RESULTS)


def table(results: dict[str, dict[str, Any]]) -> Table:
    found = Table("benchmark", "ours", "limit", "peer", "unit", "of limit", "of peer")
    for name, result in results.items():
        figures = [figure(result[key]) for key in ("ours", "limit", "peer")]
        ratios = [figure(result[key]) for key in ("of_limit", "of_peer")]
        found.add_row(name, *figures, result["unit"], *ratios)
    return found


def main(wanted: Iterable[str]) -> int:
    """Run the named benchmarks (none: all). Returns the exit code."""
    exit_on_sigterm()
    console = Console()
    known = names()
    chosen = list(wanted) or known
    unknown = [name for name in chosen if name not in known]
    if unknown:
        console.print(f"No benchmark {', '.join(unknown)}; there are: {', '.join(known)}.")
        return 2
    results: dict[str, dict[str, Any]] = {}
    failed = False
    for name in chosen:
        console.print(f"[bold]{name}[/bold] …")
        try:
            results[name] = measure(name)
        except RuntimeError as error:
            console.print(f"[red]{error}[/red]")
            failed = True
            continue
        keep({name: results[name]})
        page.write()
    console.print(table(results))
    for name, result in results.items():
        console.print(f"[bold]{name}[/bold]: {result['detail']}", highlight=False)
    return 1 if failed else 0
