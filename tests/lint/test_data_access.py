"""Nothing reads data for somebody without saying for whom: a reading of the syntax trees."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sluiceway", "api", "orchestration", "dashboards_app", "expectations")
# Whose work is the same for every workspace and person; what they find is not shown as rows to anybody.
WHOLE = {
    "sluiceway/infra/database.py": "defines the roles",
    "sluiceway/runtime/doctor.py": "tries whether each role can sign in",
}
DATA_SCHEMAS = ("silver.", "gold.", "marts.", "staging.")
# As the catalog's role: bookkeeping of loads, in which no event's value is.
BOOKKEEPING = ("silver.batches", "gold.dirty_buckets", "gold.aggregates", "gold.builds", "gold.floors")


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in path.parts and "migrations" not in path.parts:
                yield path


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blind_reads(tree: ast.Module) -> list[int]:
    """Lines that open something as READER without `access=`."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and any(_is_reader(argument) for argument in [*node.args, *(k.value for k in node.keywords)])
        and not any(keyword.arg == "access" for keyword in node.keywords)
    ]


def _is_reader(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "READER"


def data_named(tree: ast.Module) -> list[str]:
    """Relations with data that SQL in the module names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = node.value.replace("(", " ").replace(",", " ").split()
            for before, word in pairwise(words):
                if before.upper() in ("FROM", "JOIN") and word.startswith(DATA_SCHEMAS):
                    found.append(word)
    return [word for word in found if not word.startswith(BOOKKEEPING)]


def test_a_reader_has_eyes() -> None:
    texts = {name_of(path): path.read_text() for path in sources() if name_of(path) not in WHOLE}
    reading = {name: text for name, text in texts.items() if "READER" in text}
    assert len(reading) >= 3
    assert {name: lines for name, text in reading.items() if (lines := blind_reads(ast.parse(text)))} == {}


@pytest.mark.parametrize("package", ["api", "dashboards_app"])
def test_the_api_and_the_app_name_no_data_themselves(package: str) -> None:
    named = {
        name_of(path): found
        for path in sources()
        if path.is_relative_to(ROOT / package) and (found := data_named(ast.parse(path.read_text())))
    }
    assert named == {}


def test_reading_without_eyes_is_found() -> None:
    assert blind_reads(ast.parse("db.transaction(Role.READER, workspace_id=1)")) == [1]
    assert blind_reads(ast.parse("db.connect(Role.READER)\ndb.engine(role=Role.READER)")) == [1, 2]
    assert blind_reads(ast.parse("db.transaction(Role.READER, access=eyes)\ndb.connect(Role.APP)")) == []
    assert data_named(ast.parse("x = 'SELECT 1 FROM silver.samples s JOIN gold.samples_1h g'")) == [
        "silver.samples", "gold.samples_1h",
    ]  # fmt: skip
    assert data_named(ast.parse("x = 'SELECT 1 FROM silver.batches'")) == []
