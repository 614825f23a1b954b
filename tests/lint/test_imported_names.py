"""Every name that one of our modules takes from another is there: read from the syntax trees, nothing is run.

The type checker reads the domain only, and a test module that imports what was renamed beside it is found by
nobody until the whole suite is collected.
"""

import ast
import gc
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("sluiceway", "api", "orchestration", "dashboards_app", "expectations", "tests", "benchmarks")
ALWAYS_THERE = {"__name__", "__file__", "__doc__", "__path__", "__package__", "__spec__", "__dict__"}
Trees = Mapping[str, ast.Module]
"""Syntax trees by the module's dotted name; a package's is that of its `__init__`."""


def trees_of(root: Path) -> dict[str, ast.Module]:
    """Every module under `PACKAGES`; folders without an `__init__` are packages, too."""
    found: dict[str, ast.Module] = {}
    gc.disable()  # nothing of what is made here goes again: looking for it takes longer than parsing
    try:
        for path in (path for package in PACKAGES for path in (root / package).rglob("*.py")):
            if "node_modules" in path.parts:
                continue
            parts = path.relative_to(root).with_suffix("").parts
            for depth in range(1, len(parts)):
                found.setdefault(".".join(parts[:depth]), ast.Module([], []))
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(), str(path))
    finally:
        gc.enable()
    return found


class Read:
    """What one walk through a module finds."""

    def __init__(self, tree: ast.Module, trees: Trees) -> None:
        self.imports: list[ast.Import] = []
        self.from_imports: list[ast.ImportFrom] = []
        self.made_global: set[str] = set()
        self.assigned: set[str] = set()
        self.attributes: list[tuple[int, str, str]] = []
        """Line, what stands before the dot, what stands behind it."""
        for node in ast.walk(tree):
            match node:
                case ast.Name(ctx=ast.Store()):
                    self.assigned.add(node.id)
                case ast.arg():
                    self.assigned.add(node.arg)
                case ast.Attribute(value=ast.Name(id=before), ctx=ast.Load()):
                    self.attributes.append((node.lineno, before, node.attr))
                case ast.Call(
                    func=ast.Attribute(attr="setattr"),
                    args=[ast.Name(id=before), ast.Constant(value=str(name)), *_],
                ):
                    self.attributes.append((node.lineno, before, name))
                case ast.ImportFrom():
                    self.from_imports.append(node)
                case ast.Import():
                    self.imports.append(node)
                case ast.Global():
                    self.made_global.update(node.names)
        self.modules = self._modules(trees)

    def _modules(self, trees: Trees) -> dict[str, str]:
        """Our modules by what they are called here; a name that means two things is left out."""
        meanings: dict[str, set[str]] = {name: {""} for name in self.assigned}
        for node in self.from_imports:
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                meanings.setdefault(alias.asname or alias.name, set()).add(module if module in trees else "")
        return {name: one for name, found in meanings.items() if len(found) == 1 and (one := min(found))}


class Names:
    """What can be taken from a module."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self.read = {module: Read(tree, trees) for module, tree in trees.items()}
        self._known: dict[str, set[str] | None] = {}

    def has(self, module: str, name: str) -> bool:
        known = self.of(module)
        return known is None or name in known or name in ALWAYS_THERE or f"{module}.{name}" in self.trees

    def of(self, module: str) -> set[str] | None:
        """The names bound at a module's top; None: any, it makes them when asked."""
        if module not in self._known:
            self._known[module] = set()  # for two modules that take everything from each other
            self._known[module] = self._found(module)
        return self._known[module]

    def _found(self, module: str) -> set[str] | None:
        found = set(self.read[module].made_global)
        for node in _top(self.trees[module].body):
            if isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
                return None
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                everything = self.of(node.module) if node.module in self.trees else None
                if everything is None:
                    return None
                found |= everything
            found.update(_bound(node))
        return found


def _top(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, those inside `if`, `try`, `with` and loops as well."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for child in ast.iter_child_nodes(node):
                inner = child.body if isinstance(child, ast.ExceptHandler | ast.match_case) else [child]
                yield from _top(each for each in inner if isinstance(each, ast.stmt))


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    else:
        yield from (
            part.id
            for part in ast.walk(node)
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
        )


def missing(module: str, names: Names) -> list[str]:
    """What `module` takes from our modules and is not there."""
    read, trees = names.read[module], names.trees
    found: list[tuple[int, str]] = []
    for node in read.from_imports:
        if node.module and _ours(node.module):
            if node.module not in trees:
                found.append((node.lineno, f"there is no module {node.module}"))
                continue
            absent = [a.name for a in node.names if a.name != "*" and not names.has(node.module, a.name)]
            found += [(node.lineno, f"{node.module} has no {name}") for name in absent]
    for each in read.imports:
        absent = [alias.name for alias in each.names if _ours(alias.name) and alias.name not in trees]
        found += [(each.lineno, f"there is no module {name}") for name in absent]
    for line, before, name in read.attributes:
        other = read.modules.get(before)
        if other is not None and not names.has(other, name):
            found.append((line, f"{other} has no {name}"))
    return [f"line {line}: {what}" for line, what in sorted(found)]


def _ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def taken_from_tests(trees: Trees) -> list[str]:
    """Test modules from which another takes something: imported a second time, they are another module."""
    names = Names(trees)
    return [
        f"{module}, line {node.lineno}: {node.module} is a test module: share through tests/support"
        for module in sorted(trees)
        for node in names.read[module].from_imports
        if node.module and _ours(node.module) and node.module.rpartition(".")[2].startswith("test_")
    ]


def problems(trees: Trees) -> list[str]:
    names = Names(trees)
    return [f"{module}, {problem}" for module in sorted(trees) for problem in missing(module, names)]


def test_every_name_that_is_imported_is_there() -> None:
    trees = trees_of(ROOT)
    assert {"tests.conftest", "api.app", "benchmarks"} <= set(trees)
    assert problems(trees) + taken_from_tests(trees) == []


def _written(**sources: str) -> Trees:
    """Modules of `tests` with this source."""
    return {"tests": ast.Module([], [])} | {f"tests.{k}": ast.parse(v) for k, v in sources.items()}


def test_a_name_that_is_not_there_is_found() -> None:
    support = "from os import path\nif path:\n    A = 1\nelse:\n    B: int = 2\n(C, D) = 3, 4\ndef e(): ...\n"
    user = (
        "from tests.support import A, B, C, D, e, path, gone\nfrom tests.away import X\nimport tests.lost\n"
        "from tests import support, nothing\nsupport.e()\nsupport.f()\n"
        "def t(monkeypatch): monkeypatch.setattr(support, 'g', 1)\n"
    )
    assert problems(_written(support=support, user=user)) == [
        "tests.user, line 1: tests.support has no gone",
        "tests.user, line 2: there is no module tests.away",
        "tests.user, line 3: there is no module tests.lost",
        "tests.user, line 4: tests has no nothing",
        "tests.user, line 6: tests.support has no f",
        "tests.user, line 7: tests.support has no g",
    ]


def test_what_one_test_module_takes_from_another_is_found() -> None:
    found = taken_from_tests(_written(test_one="a = 1\n", test_two="from tests.test_one import a\n"))
    assert found == ["tests.test_two, line 1: tests.test_one is a test module: share through tests/support"]


def test_names_that_come_another_way_are_there() -> None:
    every = (
        "from tests.base import *\ntry:\n    import fast as quick\nexcept ImportError:\n    quick = None\n"
    )
    base = "with open('x') as handle:\n    pass\nfor n in []:\n    last = n\ndef f():\n    global made\n"
    lazy = "def __getattr__(name): ...\n"
    user = (
        "from tests.every import handle, last, made, n, quick\nfrom tests.lazy import anything\n"
        "from tests import base\ndef f(base): return base.whatever\n"
    )
    assert problems(_written(base=base, every=every, lazy=lazy, user=user)) == []
