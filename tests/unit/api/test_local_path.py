"""Where a person may be sent after signing in."""

import pytest

from api.sign_in import local_path


@pytest.mark.parametrize("path", ["/", "/dashboard?slug=a&range=24h", "/a/b#c", "/?x=https://evil.example"])
def test_paths_of_this_site_are_kept(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        None, "", "dashboard", "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example",
        "javascript:alert(1)", "/\t/evil.example", "/a\nb", "/sign-in", "/sign-out", "/v1/keys",
        "/" + "a" * 3000,
    ],
)  # fmt: skip
def test_everything_else_leads_home(path: str | None) -> None:
    assert local_path(path) == "/"
