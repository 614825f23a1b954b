"""docs/audit.md lists every action, and no other."""

import re
from pathlib import Path

from sluiceway.audit.actions import Action

ROOT = Path(__file__).parents[3]


def test_the_page_lists_every_action() -> None:
    table = (ROOT / "docs" / "audit.md").read_text().split("## Actions")[1].split("## ")[0]
    told = re.findall(r"`([a-z_]+\.[a-z_]+)`", table)
    assert sorted(told) == sorted(set(told)), "an action stands there twice"
    assert set(told) == set(Action)


def test_every_action_is_recorded_somewhere() -> None:
    sources = "\n".join(
        path.read_text()
        for package in ("api", "sluiceway", "orchestration")
        for path in (ROOT / package).rglob("*.py")
        if path.name != "actions.py"
    )
    unused = [action.name for action in Action if f".{action.name}" not in sources]
    assert unused == []
