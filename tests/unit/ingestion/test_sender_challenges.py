"""Handshakes: what is answered, and what a stranger cannot make us answer."""

import base64
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest

from sluiceway.ingestion.senders.contracts import ActiveSecret, Reply
from sluiceway.ingestion.senders.service import SchemeVerifier, make_verifier
from sluiceway.kit.errors import Unauthenticated
from tests.support import signers
from tests.support.signers import NOW, delivery, spec

SECRET = "b5f1 signs"
TOKEN = "c0de verifies"


def with_challenge(challenge: dict[str, Any], *, scheme: str = "github", **settings: Any) -> SchemeVerifier:
    secrets = [ActiveSecret(SECRET), ActiveSecret(TOKEN, purpose="challenge")]
    return make_verifier(spec(scheme, challenge=challenge, **settings), secrets, time_s=lambda: NOW)


def refused(found: SchemeVerifier, method: str, query: bytes = b"", headers: Any = ()) -> str:
    with pytest.raises(Unauthenticated) as caught:
        found.handshake(method, query, list(headers))
    assert SECRET not in caught.value.detail and TOKEN not in caught.value.detail
    return caught.value.code


def answered(found: SchemeVerifier, method: str, query: bytes = b"", headers: Any = ()) -> Reply:
    reply = found.handshake(method, query, list(headers))
    assert reply is not None and reply.status == 200
    assert reply.media_type in ("text/plain; charset=utf-8", "application/json")
    return reply


def test_without_a_challenge_nothing_is_answered() -> None:
    found = make_verifier(spec("github"), [ActiveSecret(SECRET)])
    for method in ("GET", "POST", "OPTIONS"):
        assert found.handshake(method, b"hub.mode=subscribe&hub.challenge=1&challenge=2", []) is None


def test_meta() -> None:
    found = with_challenge({"type": "meta"})
    query = f"hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={quote(TOKEN)}".encode()
    reply = answered(found, "GET", query)
    assert (reply.media_type, reply.body) == ("text/plain; charset=utf-8", b"1158201444")
    assert (b"x-content-type-options", b"nosniff") in reply.headers
    for wrong in (
        query.replace(b"c0de", b"other"),
        query.replace(b"c0de%20verifies", quote(SECRET).encode()),
        query.replace(b"subscribe", b"unsubscribe"),
        query.replace(b"hub.challenge=1158201444&", b""),
        query.replace(b"1158201444", b"1" * 3000),
        b"",
    ):
        assert refused(found, "GET", wrong) == "challenge_refused", wrong
    without = make_verifier(spec("github", challenge={"type": "meta"}), [ActiveSecret(SECRET)])
    assert refused(without, "GET", query) == "sender_secret_missing"
    assert found.handshake("POST", query, []) is None


def test_an_expired_verify_token_is_none() -> None:
    secrets = [ActiveSecret(TOKEN, purpose="challenge", expires_at_s=NOW)]
    found = make_verifier(spec("github", challenge={"type": "meta"}), secrets, time_s=lambda: NOW)
    query = f"hub.mode=subscribe&hub.challenge=1&hub.verify_token={quote(TOKEN)}".encode()
    assert refused(found, "GET", query) == "sender_secret_missing"


def test_websub_confirms_its_own_topic_only() -> None:
    topic = "https://blog.example.com/feed?a=1"
    found = with_challenge({"type": "websub", "topic": topic})
    query = f"hub.mode=subscribe&hub.topic={quote(topic, safe='')}&hub.challenge=abc&hub.lease_seconds=9"
    assert answered(found, "GET", query.encode()).body == b"abc"
    assert answered(found, "GET", query.replace("=subscribe", "=unsubscribe").encode()).body == b"abc"
    assert refused(found, "GET", query.replace("blog", "spam").encode()) == "challenge_refused"
    assert refused(found, "GET", b"hub.challenge=abc") == "challenge_refused"


def test_microsoft_graph_and_dropbox_get_their_text_back() -> None:
    graph = with_challenge({"type": "microsoft-graph"}, scheme="key", query="key")
    token = "Validation: Testing <b>client</b> ü"
    assert answered(graph, "POST", f"validationToken={quote(token)}".encode()).body == token.encode()
    assert graph.verify(delivery(b"", query=f"validationToken={quote(token)}&key=x".encode())) is not None
    assert refused(graph, "POST", b"validationToken=") == "challenge_refused"
    assert graph.handshake("POST", b"key=x", []) is None
    dropbox = with_challenge({"type": "dropbox"})
    assert answered(dropbox, "GET", b"challenge=abc").body == b"abc"
    assert refused(dropbox, "GET", b"other=abc") == "challenge_refused"


def test_x_crc_by_the_documented_formula() -> None:
    found = with_challenge({"type": "x"}, scheme="hmac", header="x-twitter-webhooks-signature",
                           encoding="base64", prefix="sha256=")  # fmt: skip
    token = "NDA1NmU4NDYtZTQ3Yi00ODk5LWI1NzMtNWY5ZmM5OGVkNmRj"
    right = base64.b64encode(hmac.new(SECRET.encode(), token.encode(), "sha256").digest()).decode()
    reply = answered(found, "GET", f"crc_token={token}".encode())
    assert json.loads(reply.body) == {"response_token": f"sha256={right}"}


@pytest.mark.parametrize(
    "body",
    [b'{"a":1}', b"[]", b'"x"', b"a=1", b"a=1&b=", b"{}", b"\n{}", b"a b", b"x" * 257, b"a\n=", b"a=b="],
)
def test_x_crc_never_signs_what_could_be_an_event(body: bytes) -> None:
    found = with_challenge({"type": "x"}, scheme="hmac", header="x-s", encoding="base64", prefix="sha256=")
    assert refused(found, "GET", b"crc_token=" + quote(body).encode()) == "challenge_refused"


@pytest.mark.parametrize("token", ["abc", "abc=", "abc==", "null", "12", "x" * 256])
def test_what_x_crc_signs_for_anyone_is_no_signature_of_a_body(token: str) -> None:
    found = with_challenge({"type": "x"}, scheme="hmac", header="x-s", encoding="base64", prefix="sha256=")
    reply = answered(found, "GET", b"crc_token=" + quote(token).encode())
    stolen = {
        "x-s": json.loads(reply.body)["response_token"],
        "content-type": "application/x-www-form-urlencoded",
    }
    with pytest.raises(Unauthenticated) as caught:
        found.verify(delivery(token.encode(), stolen))
    assert caught.value.code == "signature_invalid"
    assert found.verify(delivery(b"{}", _x(b"{}"))) is None


def _x(body: bytes) -> dict[str, str]:
    return {"x-s": "sha256=" + signers.shopify(SECRET, body)["X-Shopify-Hmac-Sha256"]}


def test_zoom_answers_signed_validations_only() -> None:
    settings = {
        "header": "x-zm-signature", "prefix": "v0=", "payload": "v0:{timestamp}:{body}",
        "timestamp_header": "x-zm-request-timestamp",
    }  # fmt: skip
    found = with_challenge({"type": "zoom"}, scheme="hmac", **settings)
    body = signers.dumps(
        {"event": "endpoint.url_validation", "payload": {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw"}}
    )
    signed = signers.slack(SECRET, body)
    headers = {
        "x-zm-signature": signed["X-Slack-Signature"],
        "x-zm-request-timestamp": signed["X-Slack-Request-Timestamp"],
    }
    reply = found.verify(delivery(body, headers))
    assert reply is not None
    encrypted = hmac.new(SECRET.encode(), b"q9ibPhGeRZ6ayx5WTrXjRw", "sha256").hexdigest()
    assert json.loads(reply.body) == {"plainToken": "q9ibPhGeRZ6ayx5WTrXjRw", "encryptedToken": encrypted}
    with pytest.raises(Unauthenticated):
        found.verify(delivery(body, {}))
    with pytest.raises(Unauthenticated):
        found.verify(delivery(body, {**headers, "x-zm-signature": "v0=" + "0" * 64}))


def test_slacks_url_verification_is_signed() -> None:
    found = make_verifier(spec("slack"), [ActiveSecret(SECRET)], time_s=lambda: NOW)
    body = signers.dumps({"token": "t", "challenge": "3eZbrw1aBm2r", "type": "url_verification"})
    reply = found.verify(delivery(body, signers.slack(SECRET, body)))
    assert reply is not None and (reply.status, reply.body) == (200, b"3eZbrw1aBm2r")
    with pytest.raises(Unauthenticated):
        found.verify(delivery(body, signers.slack("other", body)))
    for event in (
        {"type": "event_callback", "text": "url_verification"},
        ["url_verification"],
        "url_verification",
    ):
        body = signers.dumps(event)
        assert found.verify(delivery(body, signers.slack(SECRET, body))) is None
    broken = b'{"type":"url_verification"'
    assert found.verify(delivery(broken, signers.slack(SECRET, broken))) is None
    body = signers.dumps({"type": "url_verification", "challenge": 5})
    with pytest.raises(Unauthenticated):
        found.verify(delivery(body, signers.slack(SECRET, body)))


def test_cloudevents_handshake() -> None:
    asks = [(b"webhook-request-origin", b"eventgrid.azure.net"), (b"webhook-request-rate", b"120")]
    found = with_challenge({"type": "cloudevents"}, scheme="key", query="key")
    headers = dict(answered(found, "OPTIONS", b"", asks).headers)
    assert headers[b"webhook-allowed-origin"] == b"eventgrid.azure.net"
    assert headers[b"webhook-allowed-rate"] == b"*" and headers[b"allow"] == b"POST"
    assert found.handshake("OPTIONS", b"", []) is None
    strict = with_challenge(
        {"type": "cloudevents", "origins": ["a.example"], "rate": 60}, scheme="key", query="k"
    )
    assert refused(strict, "OPTIONS", b"", asks) == "challenge_refused"
    headers = dict(answered(strict, "OPTIONS", b"", [(b"webhook-request-origin", b"a.example")]).headers)
    assert headers[b"webhook-allowed-rate"] == b"60"
