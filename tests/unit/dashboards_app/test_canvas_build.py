"""The build: nothing to do when nothing changed, names that hold a hash, a lock file without addresses."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dashboards_app.canvas import ASSETS_URL, DIST, FOLDER
from dashboards_app.canvas.build import build, is_current


def test_built_once_is_not_built_again() -> None:
    build()
    assert is_current()
    assert build() is False


@pytest.mark.slow
def test_two_who_build_a_fresh_clone_at_once_both_find_it_built(tmp_path: Path) -> None:
    package = tmp_path / "dashboards_app"
    shutil.copytree(
        FOLDER, package / "canvas", ignore=shutil.ignore_patterns("dist", "node_modules", ".build.lock")
    )
    shutil.copy(FOLDER.parent / "__init__.py", package)
    command = [sys.executable, "-m", "dashboards_app.canvas.build"]
    builders = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [builder.communicate()[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0], said
    assert sorted("built in" in text for text in said) == [False, True], said
    names = json.loads((package / "canvas" / "dist" / "assets.json").read_text())
    names.pop("inputs")
    assert all((package / "canvas" / "dist" / name).is_file() for name in names.values())


def test_every_name_holds_a_hash_and_exists() -> None:
    build()
    names = json.loads((DIST / "assets.json").read_text())
    names.pop("inputs")
    assert {"index", "canvas", "worker", "font_latin"} <= set(names)
    for name in names.values():
        assert re.fullmatch(r"[a-z-]+-[A-Za-z0-9]{8,}\.(js|woff2)", name)
        assert (DIST / name).is_file()
    index = (DIST / names["index"]).read_text()
    assert index.strip() == f'export {{ default }} from "{ASSETS_URL}/{names["canvas"]}";'


def test_bundles_need_no_unsafe_eval() -> None:
    build()
    for path in DIST.glob("*.js"):
        assert not re.search(r"\bnew Function\(|[^.\w]eval\(", path.read_text()), path.name


def test_the_lock_file_names_no_registry() -> None:
    lock = (FOLDER / "package-lock.json").read_text()
    assert '"resolved"' not in lock and "registry." not in lock
    assert json.loads(lock)["packages"]["node_modules/gridstack"]["version"].startswith("14.")
