"""Paths that lead out of their folder: nothing of the machine's files comes back."""

from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from tests.support.attacks import TRAVERSALS
from tests.support.raw_asgi import ask

# What would be found one level up, two levels up, and at the root of the machine.
LEAKS = (b"root:x:0", b"from fastapi", b"[project]", b"BEGIN PRIVATE KEY")
FILES = ("/assets/", "/assets/canvas/", "/v1/schemas/", "/v1/pipelines/", "/link/", "/docs/")


def cookie(world: Any) -> tuple[bytes, bytes]:
    token = world.person("owner").http.cookies["sluiceway_session"]
    return b"cookie", f"sluiceway_session={token}".encode()


def test_no_path_of_the_api_leads_to_a_file_of_the_machine(world: Any) -> None:
    signed_in = cookie(world)
    for folder in FILES:
        for attack in TRAVERSALS:
            told = ask(world, folder + attack, signed_in)
            assert told.status in (200, 404, 405, 422), f"{folder}{attack}: {told.status}"
            assert not any(leak in told.body for leak in LEAKS), folder + attack


def test_only_files_that_are_named_are_served(world: Any) -> None:
    assert ask(world, "/assets/page.css").status == 200
    for name in ("shell.py", "frame.html", "reference.py", "page.css/", "./page.css", "../app.py", ""):
        assert ask(world, f"/assets/{name}").status == 404, name
    for name in ("assets.json", ".build.lock", "index.js", "../manifest.toml", "..%2f..%2fclient.py"):
        assert ask(world, f"/assets/canvas/{name}").status == 404, name


def test_no_path_of_the_apps_framework_leads_to_a_file_of_the_machine(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dashboards_app.app import make_pages

    pages = make_pages("http://127.0.0.1:1")
    app = create_app(world.services, pages=pages)
    signed_in = cookie(world)
    (tmp_path / "passwd").write_text("root:x:0")
    monkeypatch.chdir(tmp_path)
    folders = (
        "/static/", "/media/", "/app/static/", "/component/", "/_stcore/component/",
        "/_stcore/bidi-components/sluiceway.canvas/", "/_stcore/upload_file/", "/",
    )  # fmt: skip
    for folder in folders:
        for attack in (*TRAVERSALS, "passwd"):
            told = ask(world, folder + attack, signed_in, app=app)
            assert told.status < 500, f"{folder}{attack}: {told.status} {told.body[:200]!r}"
            assert not any(leak in told.body for leak in LEAKS), folder + attack
