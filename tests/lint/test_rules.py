"""Rules of this code base that no linter knows: small readings of the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sluiceway", "api", "orchestration", "dashboards_app", "expectations", "benchmarks")
MODULE_LINES = 600
ENVIRONMENT = {
    "sluiceway/infra/settings.py": "the one reader of settings",
    "sluiceway/runtime/environment.py": "makes the environments of child processes",
    "dashboards_app/canvas/build.py": "puts the wheel's Node on the PATH of npm's scripts",
    "expectations/engine.py": "turns a library's analytics off, which knows no other switch",
}


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES = [path for path in modules() if "node_modules" not in path.parts]


def environment_reads(tree: ast.Module) -> list[int]:
    """Lines that reach for the process's environment."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and _imports_environment(node))
    ]


def _imports_environment(node: ast.ImportFrom) -> bool:
    return any(alias.name in ("environ", "getenv") for alias in node.names)


def private_imports(tree: ast.Module, own_slice: str | None) -> list[str]:
    """`models` and `repository` of a slice that is not the module's own."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            private = len(parts) > 2 and parts[0] == "sluiceway" and parts[2] in ("models", "repository")
            if private and parts[1] != own_slice:
                found.append(name)
    return found


def slice_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "sluiceway" and len(parts) > 2 else None


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_module_keeps_the_rules(path: Path) -> None:
    source = path.read_text()
    tree = ast.parse(source)
    problems = []
    if source.strip() and not ast.get_docstring(tree):
        problems.append("does not open with a docstring that says what belongs in it")
    if (lines := source.count("\n")) > MODULE_LINES:
        problems.append(f"has {lines} lines, more than {MODULE_LINES}")
    if name_of(path) not in ENVIRONMENT and path.parts[len(ROOT.parts)] != "benchmarks":
        problems += [f"line {line} reads the environment" for line in environment_reads(tree)]
    problems += [
        f"imports {name}, which is private to its slice" for name in private_imports(tree, slice_of(path))
    ]
    assert not problems, f"{name_of(path)}: " + "; ".join(problems)


def test_reading_the_environment_is_found() -> None:
    assert environment_reads(ast.parse("import os\nos.environ['A']\nos.getenv('B')")) == [2, 3]
    assert environment_reads(ast.parse("from os import environ")) == [1]
    assert environment_reads(ast.parse("import os\nos.getpid()")) == []


def test_private_modules_are_found() -> None:
    tree = ast.parse("from sluiceway.catalog import repository\nfrom sluiceway.catalog.models import X")
    assert set(private_imports(tree, "lake")) == {
        "sluiceway.catalog.repository", "sluiceway.catalog.models", "sluiceway.catalog.models.X",
    }  # fmt: skip
    assert private_imports(tree, "catalog") == []


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_slices_private_modules_are_protected_by_contract() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = {m for c in contracts if c["type"] == "protected" for m in c["protected_modules"]}
    private = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in ("models", "repository")
        for path in (ROOT / "sluiceway").glob(f"*/{name}.py")
    }
    assert private - protected == set()
