"""Line ends in what comes back as a header, hosts that are not ours, headers that say who somebody is."""

from typing import Any

import pytest

from tests.support.raw_asgi import Told, ask

ENDS = (
    "%0d%0aSet-Cookie:%20planted=1",
    "%0aSet-Cookie:%20planted=1",
    "%0d%0a%0d%0a<script>",
    "%E5%98%8D%E5%98%8A",
)
ORIGIN = (b"origin", b"http://localhost:8000")
FORM = (b"content-type", b"application/x-www-form-urlencoded")


def is_clean(told: Told) -> bool:
    """No header holds a line end, and none was planted."""
    texts = [name + b": " + value for name, value in told.headers]
    return not any(b"\r" in t or b"\n" in t or b"planted" in t.split(b"%")[0] for t in texts)


@pytest.mark.parametrize("ends", ENDS)
def test_a_line_end_in_an_address_never_reaches_a_header(world: Any, ends: str) -> None:
    for target in (
        f"/sign-in?next=/{ends}", f"/{ends}", f"/dashboard?slug={ends}", f"/v1/pipelines/{ends}",
        f"/v1/pipelines/a/export?x={ends}", f"/docs{ends}", f"/assets/{ends}",
    ):  # fmt: skip
        told = ask(world, target)
        assert told.status < 500 and is_clean(told), f"{target}: {told.status} {told.headers}"


def test_where_somebody_goes_after_signing_in_is_a_path_of_this_site(world: Any) -> None:
    world.person("owner")
    for target in (
        "https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example",
        "javascript:alert(1)", "/\r\nSet-Cookie: planted=1", "http:evil.example", "/\t/evil.example",
        "\\\\evil.example", "/%5cevil",
    ):  # fmt: skip
        answer = world.client(headers={"Origin": "http://localhost:8000"}).post(
            "/sign-in",
            data={"email": "owner1@example.com", "password": "correct horse battery", "next": target},
        )
        place = answer.headers["location"]
        assert answer.status_code == 303 and place.startswith("/") and not place.startswith(("//", "/\\"))
        assert "\r" not in place and "\n" not in place and "\t" not in place


def test_a_request_id_that_is_none_is_replaced(world: Any) -> None:
    for text in (b"a\r\nSet-Cookie: planted=1", b"<script>", b"x" * 65, b"", b"a b", "é".encode()):
        told = ask(world, "/healthz", (b"x-request-id", text))
        assert is_clean(told) and told.header("x-request-id") != [text.decode("latin-1")]
    assert ask(world, "/healthz", (b"x-request-id", b"mine-1.a_b")).header("x-request-id") == ["mine-1.a_b"]


def test_a_host_that_is_not_ours_is_in_no_answer(world: Any) -> None:
    """Links that go out are made from SLUICEWAY_PUBLIC_URL, never from what a request says of itself."""
    evil = (
        (b"host", b"evil.example"),
        (b"x-forwarded-host", b"evil.example"),
        (b"forwarded", b"host=evil.example"),
    )
    for target in (
        "/",
        "/sign-in",
        "/dashboard",
        "/v1/me",
        "/v1/nothing",
        "/docs",
        "/openapi.json",
        "/forgot",
    ):
        told = ask(world, target, *evil)
        assert b"evil.example" not in told.body, target
        assert not any(b"evil.example" in value for _, value in told.headers), target


@pytest.mark.parametrize(
    "header",
    [
        b"x-sluiceway-user",
        b"X-Sluiceway-User",
        b"x-forwarded-user",
        b"x-remote-user",
        b"x-original-url",
        b"x-rewrite-url",
    ],
)
def test_nobody_says_who_they_are_in_a_header(world: Any, header: bytes) -> None:
    world.person("owner")
    told = ask(world, "/v1/me", (header, b'{"email": "owner1@example.com", "id": "1", "role": "owner"}'))
    assert told.status == 401
    assert ask(world, "/healthz", (header, b"/v1/keys")).body == ask(world, "/healthz").body


@pytest.mark.parametrize("header", [b"x-http-method-override", b"x-method-override", b"x-http-method"])
def test_a_read_is_never_turned_into_a_write(world: Any, header: bytes) -> None:
    token = world.person("owner").http.cookies["sluiceway_session"].encode()
    told = ask(world, "/v1/session", (b"cookie", b"sluiceway_session=" + token), (header, b"DELETE"))
    assert told.status == 200
    assert ask(world, "/v1/me", (b"cookie", b"sluiceway_session=" + token)).status == 200
