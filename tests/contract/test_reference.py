"""What the docs say about settings, commands, targets and files is what the code says."""

import re
import subprocess
from pathlib import Path

import pytest

from sluiceway.catalog.service import parse
from sluiceway.infra.settings import SETTINGS
from sluiceway.runtime import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def test_settings_and_commands_are_written_as_they_are() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == reference.settings_page(), "run `make docs`"
    assert (ROOT / "docs" / "cli.md").read_text() == reference.cli_page(), "run `make docs`"
    assert (ROOT / "docs" / "metrics.md").read_text() == reference.metrics_page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()
    known = {setting.variable for setting in SETTINGS.values()}
    named = set(re.findall(r"\bSLUICEWAY_[A-Z0-9_]*[A-Z0-9]\b", text))
    assert {v for v in named if not any(k.startswith(v) for k in known)} == set()
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_help_names_every_target_that_is_for_people() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup",
        "up",
        "dev",
        "demo",
        "test",
        "test-fast",
        "faults",
        "check",
        "bench",
        "doctor",
        "clean",
    ):
        assert f"{target}" in shown


def test_readmes_pipeline_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(kind: Pipeline.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert parse(block).name == "orders"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "pipelines").glob("*.yml")), ids=lambda p: p.stem
)
def test_example_pipelines_are_valid_and_named_after_their_file(path: Path) -> None:
    assert parse(path.read_text()).name == path.stem
