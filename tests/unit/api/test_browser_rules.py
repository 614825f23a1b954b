"""What browsers are told, by the kind of answer and by the settings."""

import pytest

from api.browser_rules import BrowserRules
from sluiceway.infra.settings import WrongSetting, load_settings

OWNED = frozenset({"v1", "sign-in", "docs", "assets", "link", "healthz", "openapi.json"})


def directives(path: str, **environment: str) -> dict[str, str]:
    policy = rules(**environment).headers(path)["Content-Security-Policy"]
    return dict(part.partition(" ")[::2] for part in policy.split("; "))


def rules(**environment: str) -> BrowserRules:
    return BrowserRules(load_settings(environment), app=True, owned=OWNED)


@pytest.mark.parametrize(
    "path", ["/v1/pipelines", "/sign-in", "/docs", "/", "/dashboard", "/link/abc", "/x", "*"]
)
def test_no_answer_lets_a_script_run_that_is_not_ours(path: str) -> None:
    found = directives(path)
    scripts = found.get("script-src", found["default-src"])
    assert "unsafe" not in scripts and "*" not in scripts and "http" not in scripts
    assert all(part in ("'self'", "'none'") or part.startswith("'sha256-") for part in scripts.split())
    assert found["frame-ancestors"] == "'none'"
    assert found["base-uri"] in ("'none'", "'self'") and found["form-action"] in ("'none'", "'self'")


def test_only_the_app_has_inline_styles() -> None:
    assert "'unsafe-inline'" in directives("/dashboard")["style-src"]
    assert directives("/sign-in")["style-src"] == "'self'"
    assert "style-src" not in directives("/v1/pipelines")


def test_an_answer_of_the_api_may_do_nothing_at_all() -> None:
    assert directives("/v1/pipelines") == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_the_bundles_of_the_canvas_come_with_the_policy_of_their_page() -> None:
    """A worker is bound by the policy it came with."""
    assert directives("/assets/canvas/worker-0123456789.js")["connect-src"] == "'self'"


def test_who_may_frame_is_set_and_never_holds_for_sign_in_or_the_api() -> None:
    allowed = {"SLUICEWAY_FRAME_ANCESTORS": "'self' https://intranet.example.com"}
    assert directives("/dashboard", **allowed)["frame-ancestors"] == "'self' https://intranet.example.com"
    assert directives("/link/abc", **allowed)["frame-ancestors"] == "'self' https://intranet.example.com"
    assert "X-Frame-Options" not in rules(**allowed).headers("/dashboard")
    for path in ("/sign-in", "/v1/pipelines"):
        assert directives(path, **allowed)["frame-ancestors"] == "'none'"
        assert rules(**allowed).headers(path)["X-Frame-Options"] == "DENY"
    assert rules().headers("/dashboard")["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    "value",
    ["*", "https://*", "example.com", "https://a.example; script-src *", "https://a.example/x", "ftp://a"],
)
def test_a_frame_ancestor_that_is_no_site_stops_the_start(value: str) -> None:
    with pytest.raises(WrongSetting, match="SLUICEWAY_FRAME_ANCESTORS"):
        load_settings({"SLUICEWAY_FRAME_ANCESTORS": value})


def test_browsers_are_told_to_stay_with_https_where_it_is_the_public_address() -> None:
    secure = rules(SLUICEWAY_PUBLIC_URL="https://data.example.com")
    for path in ("/", "/v1/me", "/sign-in"):
        assert secure.headers(path)["Strict-Transport-Security"] == "max-age=31536000"
        assert "Strict-Transport-Security" not in rules().headers(path)
        assert rules().headers(path)["X-Content-Type-Options"] == "nosniff"
