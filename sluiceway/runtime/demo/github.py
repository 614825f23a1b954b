"""Real GitHub webhook payloads (npm's `@octokit/webhooks-examples`), as GitHub would deliver them.

The package is installed at set-up by `install`; nothing is fetched when the demo runs.
"""

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

PACKAGE = Path("node_modules/@octokit/webhooks-examples/api.github.com/index.json")
MANIFEST = Path(__file__).parents[3] / "examples" / "github-webhooks"
_NAMESPACE = uuid.UUID("6e9b7c0e-4b0a-5c1d-9a55-0d2f0a4b7f10")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook request: `headers` as GitHub sends them (the delivery id is stable), `body` its JSON."""

    headers: dict[str, str]
    body: bytes


def install(folder: Path, npm: list[str]) -> None:
    """Install the payloads into `folder` with the command `npm`; does nothing if they are there.

    Raises `subprocess.CalledProcessError` if npm fails.
    """
    if (folder / PACKAGE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(MANIFEST / name, folder / name)
    subprocess.run(
        [*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def deliveries(folder: Path) -> Iterator[Delivery]:
    """The 329 payloads of 58 kinds in the package's order; none if the package is not installed."""
    index = folder / PACKAGE
    if not index.exists():
        return
    for kind in json.loads(index.read_text()):
        for number, payload in enumerate(kind["examples"]):
            delivery = uuid.uuid5(_NAMESPACE, f"{kind['name']}/{number}")
            yield Delivery(
                headers={
                    "content-type": "application/json",
                    "user-agent": "GitHub-Hookshot/demo",
                    "x-github-event": kind["name"],
                    "x-github-delivery": str(delivery),
                },
                body=orjson.dumps(payload),
            )
