"""What is installed: all of it pinned, nothing with a known weakness, nothing from elsewhere."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ADVISORIES = tomllib.loads((Path(__file__).parent / "advisories.toml").read_text())
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


def weaknesses(versions: dict[str, str], advisories: dict[str, dict[str, str]]) -> list[str]:
    """What is said against these versions."""
    return [
        f"{name} {version} is below {advisories[name]['below']}: {advisories[name]['id']}"
        for name, version in sorted(versions.items())
        if name in advisories and Version(version) < Version(advisories[name]["below"])
    ]


def test_no_pinned_package_has_a_known_weakness() -> None:
    found = {name: version for name, version in pins().items() if name not in ADVISORIES["reviewed"]}
    assert weaknesses(found, ADVISORIES["pypi"]) == []


def test_no_package_of_the_browser_component_has_a_known_weakness() -> None:
    lock = json.loads((ROOT / "dashboards_app/canvas/package-lock.json").read_text())
    found = {
        path.rpartition("node_modules/")[2]: entry["version"]
        for path, entry in lock["packages"].items()
        if path
    }
    assert "gridstack" in found and weaknesses(found, ADVISORIES["npm"]) == []


def test_a_weakness_is_found() -> None:
    assert weaknesses({"pyyaml": "5.3.1"}, ADVISORIES["pypi"]) == [
        "pyyaml 5.3.1 is below 5.4: CVE-2020-14343"
    ]
    assert weaknesses({"pyyaml": "5.4", "nobody": "0.1"}, ADVISORIES["pypi"]) == []


def test_what_was_reviewed_is_still_so() -> None:
    """A reason that is no longer needed goes: it would hide the next weakness of the same package."""
    found = pins()
    for name, reason in ADVISORIES["reviewed"].items():
        assert len(reason) > 40 and weaknesses({name: found[name]}, ADVISORIES["pypi"]), name


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
