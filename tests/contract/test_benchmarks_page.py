"""The page of benchmarks says what was found, and every benchmark is on it."""

import json

from benchmarks.harness import RESULTS, names
from benchmarks.page import PAGE, with_results


def test_the_page_says_what_was_found() -> None:
    page = PAGE.read_text()
    assert page == with_results(page, json.loads(RESULTS.read_text())), "python -m benchmarks.page"


def test_every_benchmark_was_run() -> None:
    assert sorted(json.loads(RESULTS.read_text())) == names()
