"""The build: nothing to do when nothing changed, names that hold a hash, a lock file without addresses."""

import json
import re

from dashboards_app.canvas import ASSETS_URL, DIST, FOLDER
from dashboards_app.canvas.build import build, is_current


def test_built_once_is_not_built_again() -> None:
    build()
    assert is_current()
    assert build() is False


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
