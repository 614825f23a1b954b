"""Fault points: free and harmless until armed, and named once."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from sluiceway.kit import faults

ROOT = Path(__file__).parents[3]
PACKAGES = ("sluiceway", "api", "orchestration", "dashboards_app", "expectations")


def calls(name: str) -> list[tuple[str, ast.Call]]:
    """Every call of `name` in the product, with the module it is in."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" in path.parts or path.name == "faults.py":
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _called(node.func) == name:
                    found.append((path.relative_to(ROOT).as_posix(), node))
    return found


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def test_a_point_does_nothing_until_armed() -> None:
    reached: list[str] = []
    faults.reach("spool.after_sync")
    faults.arm(reached.append)
    try:
        faults.reach("spool.after_sync")
    finally:
        faults.disarm()
    faults.reach("spool.after_write")
    assert reached == ["spool.after_sync"]


def test_every_point_stands_in_one_place_and_is_described() -> None:
    named: Counter[str] = Counter()
    for module, call in calls("reach"):
        (argument,) = call.args
        assert isinstance(argument, ast.Constant) and isinstance(argument.value, str), (
            f"{module}: the name of a point is written out"
        )
        named[argument.value] += 1
    assert set(named) == set(faults.POINTS)
    assert [name for name, count in named.items() if count > 1] == []


@pytest.mark.parametrize("name", ["arm", "disarm"])
def test_nothing_of_the_product_arms_them(name: str) -> None:
    importers = [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "node_modules" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == "sluiceway.kit.faults"
        and any(alias.name == name for alias in node.names)
    ]
    assert importers == []
    assert [module for module, call in calls(name) if "faults" in ast.unparse(call.func)] == []
