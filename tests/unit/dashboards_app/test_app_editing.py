"""What people write in forms of administration, as the API takes it."""

import pytest

from dashboards_app import editing, ui
from dashboards_app.client import Problem
from dashboards_app.pages import providers

ROOMS = {1: "main", 7: "north"}


def test_attributes_are_lines() -> None:
    held = {"region": ["emea", "apac"], "desk": ["7"]}
    assert editing.attributes_text(held) == "region: emea, apac\ndesk: 7"
    assert editing.attributes_of(editing.attributes_text(held)) == held
    assert editing.attributes_of("\n region :  emea ,, \n\nalone\n") == {"region": ["emea"], "alone": []}


def test_groups_are_lines_and_may_have_colons() -> None:
    held = [
        {"group": "data-team", "workspace_id": 1, "role": "editor"},
        {"group": "urn:x:ops", "workspace_id": 7, "role": "viewer"},
    ]
    text = providers.groups_text(held, ROOMS)
    assert text == "data-team: main/editor\nurn:x:ops: north/viewer"
    assert providers.groups_of(text, ROOMS) == held


def test_a_group_of_a_workspace_that_is_not_seen_stays() -> None:
    held = [{"group": "others", "workspace_id": 99, "role": "viewer"}]
    assert providers.groups_of(providers.groups_text(held, ROOMS), ROOMS) == held


@pytest.mark.parametrize("line", ["data-team", "data-team: south/editor", ": main/editor", "a: b: c"])
def test_a_line_that_places_nobody_is_said(line: str) -> None:
    with pytest.raises(Problem, match="A group is not placed") as found:
        providers.groups_of(f"good: main/viewer\n{line}", ROOMS)
    assert line in found.value.detail


@pytest.mark.parametrize(("amount", "said"), [(0, "0 keys"), (1, "1 key"), (1200, "1,200 keys")])
def test_amounts(amount: int, said: str) -> None:
    assert ui.some(amount, "key") == said


def test_tables_hold_only_text_of_ours() -> None:
    found = ui.table_html(
        [("<b>", "text"), ("Yes", "middle")], [["<code>x</code>", ui.tick(True)]], pinned=True
    )
    assert "&lt;b&gt;" in found and "class='sw-table pinned'" in found and "aria-label='yes'" in found
