"""The page on which faults are told says what the last long run found: nothing lost, nothing doubled."""

import json

from tests.support.faults.page import PAGE, RESULTS, merged, table, with_table


def test_the_page_says_what_was_found() -> None:
    page = PAGE.read_text()
    assert with_table(page, json.loads(RESULTS.read_text())) == page, (
        "python -m tests.support.faults.page writes it"
    )


def test_what_was_found_is_fit_to_be_shown() -> None:
    results = json.loads(RESULTS.read_text())
    assert results["failed_tests"] == 0
    assert all(line["lost"] == line["doubled"] == 0 for line in results["faults"])
    assert sum(line["acknowledged"] for line in results["faults"]) > 0


def test_parts_of_a_run_add_up() -> None:
    def part(times: int) -> dict[str, object]:
        line = {"fault": "a", "times": times, "acknowledged": 10, "lost": 0, "doubled": 0}
        return {"failed_tests": 0, "faults": [line]}

    whole = merged([part(1), part(2)])
    assert whole["faults"][0]["times"] == 3
    assert table(whole).splitlines()[-1] == "| a | 3 | 20 | 0 | 0 |"
