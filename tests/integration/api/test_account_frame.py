"""The pages of one's own account: their colours, the ways between them, leaving a workspace from there."""

import pytest

from sluiceway.identity import service
from sluiceway.infra.database import Role

PAGES = ("/account", "/account/preferences", "/account/data")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_leads_to_the_others_in_the_colours_one_prefers(world, path: str) -> None:
    viewer = world.person("viewer")
    page = viewer.get(path)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert 'data-theme="system"' in page.text and page.text.count("aria-current") == 1
    assert all(f'href="{other}"' in page.text for other in PAGES)
    assert viewer.put("/v1/me/preferences", json={"theme": "dark"}).status_code == 200
    assert 'data-theme="dark"' in viewer.get(path).text


def test_a_workspace_is_left_by_a_form(world) -> None:
    world.person("owner")
    viewer = world.person("viewer")
    assert "Leave Main" in viewer.get("/account/preferences").text
    gone = viewer.post("/account/leaving")
    assert (gone.status_code, gone.headers["location"]) == (303, "/sign-in")
    assert viewer.get("/v1/session").status_code == 401
    with world.services.database.transaction(Role.APP, workspace_id=1) as conn:
        user = service.find_user(conn, "viewer1@example.com")
        assert user is not None and service.memberships(conn, user.id) == []


def test_the_last_owner_is_told_why_they_stay(world) -> None:
    owner = world.person("owner")
    page = owner.post("/account/leaving")
    assert page.status_code == 409 and 'role="alert"' in page.text
    assert owner.get("/v1/session").status_code == 200


def test_another_site_makes_nobody_leave(world) -> None:
    world.person("owner")
    viewer = world.person("viewer")
    page = viewer.post("/account/leaving", headers={"Origin": "https://evil.example"})
    assert page.status_code == 403
    assert viewer.get("/v1/session").status_code == 200


def test_a_confirmation_for_another_tab_ends_by_saying_so(world) -> None:
    assert world.client().get("/confirmed").headers["location"] == "/sign-in"
    assert "Go back to where you came" in world.person("viewer").get("/confirmed").text
