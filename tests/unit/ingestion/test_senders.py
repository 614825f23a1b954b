"""Each scheme against its published vectors, an independent signer, and everything near a right signature."""

import base64
import hashlib
import hmac
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.ingestion.senders import schemes
from sluiceway.ingestion.senders.contracts import ActiveSecret, Delivery, workspace_of
from sluiceway.ingestion.senders.service import SchemeVerifier, check_secret, make_verifier
from sluiceway.kit.errors import Unauthenticated
from tests.support import signers
from tests.support.signers import NOW, URL, WHPK, delivery, spec

SECRET = "It's a Secret to Everybody"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
BODY = b'{"id":"evt_1","value":42}'


def verifier(scheme: str, *secrets: str, **more: Any) -> SchemeVerifier:
    return make_verifier(spec(scheme, **more), [ActiveSecret(s) for s in secrets], time_s=lambda: NOW)


def refusal(found: SchemeVerifier, request: Delivery) -> str:
    with pytest.raises(Unauthenticated) as caught:
        found.verify(request)
    assert caught.value.status == 401
    assert not any(s.value in caught.value.detail for s in found._secrets)
    return caught.value.code


GENERIC = {
    "header": "X-Signature", "algorithm": "sha512", "encoding": "base64", "prefix": "v9;",
    "payload": "{method} {path}?{query}\n{timestamp}.{body}|{header:x-nonce}", "timestamp_header": "X-Time",
}  # fmt: skip


def generic(secret: str, body: bytes, at: float = NOW) -> signers.Headers:
    text = b"POST /v1/pipelines/p/events?\n%d." % at + body + b"|n-1"
    signature = base64.b64encode(hmac.new(secret.encode(), text, "sha512").digest()).decode()
    return {"X-Signature": f"v9;{signature}", "X-Time": str(int(at)), "X-Nonce": "n-1"}


Sign = Callable[[str, bytes], signers.Headers]
SCHEMES: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    "github": ("github", {}, signers.github, "x-hub-signature-256"),
    "stripe": ("stripe", {}, signers.stripe, "stripe-signature"),
    "shopify": ("shopify", {}, signers.shopify, "x-shopify-hmac-sha256"),
    "slack": ("slack", {}, signers.slack, "x-slack-signature"),
    "standard": ("standard-webhooks", {}, signers.standard, "webhook-signature"),
    "hmac": ("hmac", GENERIC, generic, "x-signature"),
}
TIMED = [name for name in SCHEMES if name not in ("github", "shopify")]


def secret_of(name: str) -> str:
    return WHSEC if name == "standard" else SECRET


def another(name: str) -> str:
    text = "another secret, long enough"
    return "whsec_" + base64.b64encode(text.encode()).decode() if name == "standard" else text


def made(name: str, *secrets: str) -> SchemeVerifier:
    scheme, settings, _, _ = SCHEMES[name]
    return verifier(scheme, *(secrets or (secret_of(name),)), **settings)


def signed(name: str, body: bytes = BODY, secret: str | None = None, **at: float) -> signers.Headers:
    found: signers.Headers = SCHEMES[name][2](secret or secret_of(name), body, **at)
    return found


def test_githubs_published_vector() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    found = verifier("github", SECRET)
    assert found.verify(delivery(b"Hello, World!", {"X-Hub-Signature-256": signature})) is None


def test_twilios_published_vector() -> None:
    fields = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+12349013030", "Digits": "1234", "From": "+12349013030",
        "To": "+18005551212",
    }  # fmt: skip
    headers = {
        "X-Twilio-Signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
    }
    body = urllib.parse.urlencode(fields).encode()
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    found = verifier("twilio", "12345")
    assert found.verify(delivery(body, headers, url=url)) is None
    assert refusal(found, delivery(body + b"&x=1", headers, url=url)) == "signature_invalid"
    assert refusal(found, delivery(body, headers, url=url + "0")) == "signature_invalid"


def test_slacks_published_vector() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    headers = {
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "X-Slack-Request-Timestamp": "1531420618",
    }
    found = verifier("slack", "8f742231b10e8888abcd99yyyzzz85a5")
    assert found.verify(delivery(body, headers, now=1531420618.0)) is None


def test_standard_webhooks_published_vector() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }  # fmt: skip
    found = verifier("standard-webhooks", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert found.verify(delivery(b'{"test": 2432232314}', headers, now=1614265330.0)) is None


@pytest.mark.parametrize("name", SCHEMES)
def test_a_right_signature_and_wrong_ones(name: str) -> None:
    found, headers = made(name), signed(name)
    where = next(k for k in headers if k.lower() == SCHEMES[name][3])
    right = headers[where]
    assert found.verify(delivery(BODY, headers)) is None

    assert refusal(found, delivery(BODY + b" ", headers)) == "signature_invalid"
    assert refusal(found, delivery(b"", headers)) == "signature_invalid"
    assert refusal(found, delivery(BODY, signed(name, secret=another(name)))) == "signature_invalid"
    assert refusal(found, delivery(BODY, signed(name, b"another body"))) == "signature_invalid"
    assert refusal(found, delivery(BODY, {})) == "signature_missing"
    for text, code in (
        ("", "signature_missing"),
        ("   ", "signature_missing"),
        (right[:-3], "signature_malformed"),
        (right + "00", "signature_malformed"),
        ("x" * 5000, "signature_malformed"),
        ("ÿþ" * 40, "signature_malformed"),
        ("sha256=", "signature_malformed"),
        (",,,,=", "signature_malformed"),
    ):
        assert refusal(found, delivery(BODY, {**headers, where: text})) in (code, "signature_invalid"), text
    twice = delivery(BODY, headers)
    twice.headers.append(next(h for h in twice.headers if h[0].decode() == SCHEMES[name][3]))
    assert refusal(found, twice) == "signature_malformed"


@pytest.mark.parametrize("name", SCHEMES)
def test_two_secrets_are_good_while_one_is_changed(name: str) -> None:
    old, new = secret_of(name), another(name)
    both = made(name, new, old)
    assert both.verify(delivery(BODY, signed(name, secret=old))) is None
    assert both.verify(delivery(BODY, signed(name, secret=new))) is None
    only_new = made(name, new)
    assert refusal(only_new, delivery(BODY, signed(name, secret=old))) == "signature_invalid"


def test_an_expired_secret_signs_no_more() -> None:
    secrets = [ActiveSecret("old", expires_at_s=NOW), ActiveSecret("new", expires_at_s=NOW + 60)]
    found = make_verifier(spec("github"), secrets)
    assert found.verify(delivery(BODY, signers.github("new", BODY))) is None
    assert refusal(found, delivery(BODY, signers.github("old", BODY))) == "signature_invalid"
    later = delivery(BODY, signers.github("new", BODY), now=NOW + 61)
    assert refusal(found, later) == "sender_secret_missing"


@pytest.mark.parametrize("name", TIMED)
def test_stale_and_future_times(name: str) -> None:
    found = made(name)
    for seconds, good in ((0, True), (-299, True), (299, True), (-301, False), (301, False), (-1e9, False)):
        request = delivery(BODY, signed(name, at=NOW + seconds))
        if good:
            assert found.verify(request) is None
        else:
            assert refusal(found, request) == "signature_stale"


@pytest.mark.parametrize("name", TIMED)
def test_a_time_is_part_of_what_is_signed(name: str) -> None:
    old, now = signed(name, at=NOW - 1000), signed(name, at=NOW)
    where = next(k for k in now if k.lower() == SCHEMES[name][3])
    if name == "stripe":
        forged = {where: now[where].split(",")[0] + "," + old[where].split(",", 1)[1]}
    else:
        forged = {**now, where: old[where]}
    assert refusal(made(name), delivery(BODY, forged)) == "signature_invalid"


@pytest.mark.parametrize("text", ["", "abc", "9" * 5000, "-1", "1e9", "٣٣", "2026-13-01T00:00:00Z", "12:00"])
def test_times_that_cannot_be_read(text: str) -> None:
    headers = {**signers.slack(SECRET, BODY), "X-Slack-Request-Timestamp": text.encode().decode("latin-1")}
    code = refusal(verifier("slack", SECRET), delivery(BODY, headers))
    assert code in ("signature_malformed", "signature_missing")


def test_times_in_milliseconds_and_as_text() -> None:
    settings = {"header": "X-S", "payload": "{timestamp}.{body}", "timestamp_header": "X-T"}
    found = verifier("hmac", SECRET, **settings)
    for at in (str(int(NOW * 1000)), "2025-11-21T04:40:00Z", "2025-11-21T05:40:00+01:00"):
        signature = hmac.new(SECRET.encode(), at.encode() + b"." + BODY, "sha256").hexdigest()
        assert found.verify(delivery(BODY, {"X-S": signature, "X-T": at})) is None, at
        assert found.verify(delivery(BODY, {"X-S": signature.upper(), "X-T": at})) is None


@given(name=st.sampled_from(sorted(SCHEMES)), data=st.data())
def test_any_flipped_bit_of_the_body_is_refused(name: str, data: st.DataObject) -> None:
    body = data.draw(st.binary(min_size=1, max_size=200).map(lambda b: b.decode("latin-1").encode()))
    at = data.draw(st.integers(0, len(body) * 8 - 1))
    changed = bytearray(body)
    changed[at // 8] ^= 1 << at % 8
    headers = signed(name, body) if name != "standard" else _standard(body)
    assert made(name).verify(delivery(body, headers)) is None
    assert refusal(made(name), delivery(bytes(changed), headers)) == "signature_invalid"


def _standard(body: bytes) -> signers.Headers:
    key = base64.b64decode(WHSEC.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, b"m.%d." % NOW + body, "sha256").digest()).decode()
    return {"webhook-id": "m", "webhook-timestamp": str(int(NOW)), "webhook-signature": f"v1,{signature}"}


@given(name=st.sampled_from(sorted(SCHEMES)), data=st.data())
def test_any_changed_byte_of_the_signature_is_refused(name: str, data: st.DataObject) -> None:
    headers = signed(name)
    where = next(k for k in headers if k.lower() == SCHEMES[name][3])
    right = headers[where]
    at = data.draw(st.integers(0, len(right) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    wrong = right[:at] + letter + right[at + 1 :]
    if wrong.lower() == right.lower():  # a hexadecimal digit is the same in upper case
        return
    refusal(made(name), delivery(BODY, {**headers, where: wrong}))


@given(
    name=st.sampled_from([*sorted(SCHEMES), "ed25519"]),
    headers=st.lists(st.tuples(st.sampled_from(
        [b"x-hub-signature-256", b"stripe-signature", b"x-slack-signature", b"x-slack-request-timestamp",
         b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x-shopify-hmac-sha256", b"x-signature",
         b"x-time", b"x-nonce"]), st.binary(max_size=100)), max_size=8),
    body=st.binary(max_size=100),
)  # fmt: skip
def test_noise_is_always_a_clear_refusal(name: str, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    found = verifier("standard-webhooks", WHPK) if name == "ed25519" else made(name)
    refusal(found, replace(delivery(body), headers=headers))


def test_ed25519_by_its_public_key() -> None:
    found = verifier("standard-webhooks", WHPK)
    headers = signers.standard_ed25519(BODY)
    assert found.verify(delivery(BODY, headers)) is None
    assert refusal(found, delivery(BODY + b" ", headers)) == "signature_invalid"
    # A public key is no secret: nobody can sign v1 with it.
    public = base64.b64decode(WHPK.removeprefix("whpk_"))
    text = b"msg_1.%d." % NOW + BODY
    for key in (public, WHPK.encode()):
        forged = base64.b64encode(hmac.new(key, text, "sha256").digest()).decode()
        assert refusal(found, delivery(BODY, {**headers, "webhook-signature": f"v1,{forged}"})) == (
            "signature_invalid"
        )


def test_both_versions_in_one_header() -> None:
    v1, v1a = signers.standard(WHSEC, BODY), signers.standard_ed25519(BODY)
    both = {**v1, "webhook-signature": f"v1a,unused= v9,x {v1['webhook-signature']}"}
    assert refusal(verifier("standard-webhooks", WHSEC), delivery(BODY, both)) == "signature_malformed"
    both = {**v1, "webhook-signature": f"{v1a['webhook-signature']} v9,x {v1['webhook-signature']}"}
    for secrets in ((WHSEC,), (WHPK,), (WHSEC, WHPK)):
        assert verifier("standard-webhooks", *secrets).verify(delivery(BODY, both)) is None
    many = {**v1, "webhook-signature": " ".join([v1["webhook-signature"]] * 33)}
    assert refusal(verifier("standard-webhooks", WHSEC), delivery(BODY, many)) == "signature_malformed"


def test_svix_headers_by_their_prefix() -> None:
    headers = {k.replace("webhook-", "svix-"): v for k, v in signers.standard(WHSEC, BODY).items()}
    assert verifier("standard-webhooks", WHSEC, header_prefix="svix-").verify(delivery(BODY, headers)) is None
    assert refusal(verifier("standard-webhooks", WHSEC), delivery(BODY, headers)) == "signature_missing"


def test_stripe_with_several_signatures() -> None:
    right = signers.stripe("new", BODY)["Stripe-Signature"]
    old = signers.stripe("old", BODY)["Stripe-Signature"].split(",")[1]
    both = {"Stripe-Signature": f"{right},v0=00, {old}"}
    assert verifier("stripe", "old").verify(delivery(BODY, both)) is None
    for text in (right.split(",")[1], right.split(",")[0], f"t=1,{right}", "t=1,v0=00"):
        assert refusal(verifier("stripe", "new"), delivery(BODY, {"Stripe-Signature": text})) == (
            "signature_malformed"
        )


def test_twilio_with_json_and_with_ports() -> None:
    found = verifier("twilio", SECRET)
    headers, query = signers.twilio_json(SECRET, BODY)
    request = delivery(BODY, headers, query=query.encode(), url=f"{URL}?{query}")
    assert found.verify(request) is None
    assert refusal(found, delivery(BODY + b" ", headers, query=query.encode(), url=f"{URL}?{query}")) == (
        "signature_invalid"
    )
    assert refusal(found, delivery(BODY, headers)) == "signature_invalid"  # bodySHA256 is missing
    form = {"Body": "a&b=ü", "From": "+1"}
    body = urllib.parse.urlencode(form).encode()
    with_port = URL.replace(".com/", ".com:443/")
    for at_sender, here in ((URL, with_port), (with_port, URL)):
        request = delivery(body, signers.twilio_form(SECRET, form, at_sender), url=here)
        assert found.verify(request) is None
    fixed = verifier("twilio", SECRET, url="https://proxy.example.com/hook")
    headers = signers.twilio_form(SECRET, form, "https://proxy.example.com/hook?a=1")
    assert fixed.verify(delivery(body, headers, query=b"a=1", url="http://inside:8000/x?a=1")) is None
    bad = b"a=%ff"
    assert refusal(found, delivery(bad, signers.twilio_form(SECRET, {"a": "x"}))) == "signature_invalid"


def test_twilio_with_an_address_that_holds_a_query() -> None:
    hook = "https://proxy.example.com/hook"
    found = verifier("twilio", SECRET, url=f"{hook}?a=1")
    inside = "http://inside:8000/x"

    def sent(body: bytes, headers: signers.Headers, query: str) -> Delivery:
        return delivery(body, headers, query=query.encode(), url=f"{inside}?{query}")

    form = {"Body": "hello", "From": "+1"}
    body = urllib.parse.urlencode(form).encode()
    headers = signers.twilio_form(SECRET, form, f"{hook}?a=1")
    assert found.verify(sent(body, headers, "a=1")) is None
    assert refusal(found, sent(body, headers, "a=2")) == "signature_invalid"

    digest = f"bodySHA256={hashlib.sha256(BODY).hexdigest()}"
    as_json = {**signers.twilio_form(SECRET, {}, f"{hook}?a=1&{digest}"), "Content-Type": "application/json"}
    assert found.verify(sent(BODY, as_json, f"a=1&{digest}")) is None
    # A hash that the signature does not cover proves nothing: whoever saw a delivery could write it.
    unsigned = {**headers, "Content-Type": "application/json"}
    unsigned |= signers.twilio_form(SECRET, {}, f"{hook}?a=1") | {"Content-Type": "application/json"}
    for query in (f"a=1&{digest}", digest):
        assert refusal(found, sent(BODY, unsigned, query)) == "signature_invalid"


def test_few_public_signatures_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []
    real = schemes._verifies

    def count(key: Any, signature: bytes, message: bytes) -> bool:
        tried.append(signature)
        return real(key, signature, message)

    monkeypatch.setattr(schemes, "_verifies", count)
    headers = signers.standard_ed25519(BODY)
    right, wrong = headers["webhook-signature"], "v1a," + base64.b64encode(bytes(64)).decode()
    found = verifier("standard-webhooks", WHPK)
    fourth = {**headers, "webhook-signature": " ".join([wrong, wrong, wrong, right])}
    assert found.verify(delivery(BODY, fourth)) is None
    fifth = {**headers, "webhook-signature": " ".join([wrong, wrong, wrong, wrong, right])}
    assert refusal(found, delivery(BODY, fifth)) == "signature_invalid"
    assert len(tried) == 8


def basic(text: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


def test_basic() -> None:
    found = verifier("basic", "pass:word ü", "older", username="probe")
    assert found.verify(delivery(BODY, basic("probe:pass:word ü"))) is None
    assert found.verify(delivery(BODY, basic("probe:older"))) is None
    for headers, code in (
        ({}, "credentials_missing"),
        ({"Authorization": "Bearer x"}, "credentials_missing"),
        ({"Authorization": "Basic"}, "credentials_invalid"),
        ({"Authorization": "Basic ***"}, "credentials_invalid"),
        (basic("probe:wrong"), "credentials_invalid"),
        (basic("Probe:older"), "credentials_invalid"),
        (basic("probe:"), "credentials_invalid"),
        (basic("older"), "credentials_invalid"),
    ):
        assert refusal(found, delivery(BODY, headers)) == code, headers


def test_key_in_header_or_query() -> None:
    found = verifier("key", "k-1", "k-2", header="X-Api-Key", prefix="Token ")
    assert found.verify(delivery(BODY, {"X-Api-Key": "Token k-2"})) is None
    assert refusal(found, delivery(BODY, {"X-Api-Key": "k-2"})) == "credentials_missing"
    assert refusal(found, delivery(BODY, {"X-Api-Key": "Token k-3"})) == "credentials_invalid"
    assert refusal(found, delivery(BODY, {"X-Api-Key": "Token "})) == "credentials_invalid"
    assert refusal(found, delivery(BODY, {})) == "credentials_missing"
    found = verifier("key", "k ü/1", query="token")
    assert found.verify(delivery(BODY, query=b"a=1&token=k%20%C3%BC%2F1")) is None
    assert refusal(found, delivery(BODY, query=b"token=k")) == "credentials_invalid"
    assert refusal(found, delivery(BODY, query=b"token=%ff&token=k")) == "credentials_missing"
    assert refusal(found, delivery(BODY, query=b"&".join([b"a=1"] * 500))) == "credentials_missing"


def test_without_a_valid_secret_nothing_comes_in() -> None:
    assert refusal(verifier("github"), delivery(BODY, signers.github("", BODY))) == "sender_secret_missing"
    # A secret for handshakes signs nothing; one that the scheme cannot use is left out.
    other = make_verifier(spec("github"), [ActiveSecret("token", purpose="challenge")])
    assert refusal(other, delivery(BODY, signers.github("token", BODY))) == "sender_secret_missing"
    assert refusal(verifier("standard-webhooks", "not base64!"), delivery(BODY)) == "sender_secret_missing"


def test_what_a_secret_must_look_like() -> None:
    standard = spec("standard-webhooks")
    assert check_secret(standard, WHSEC) is None
    assert check_secret(standard, WHSEC.rstrip("=")) is None
    assert check_secret(standard, WHPK) is None
    assert "public key" in (check_secret(standard, "whsk_AAAA") or "")
    for text in ("whpk_AAAA", "whsec_***", "whsec_", "short"):
        assert check_secret(standard, text), text
    hexadecimal = spec("hmac", header="x", secret_encoding="hex")
    assert check_secret(hexadecimal, "00ff") is None
    assert check_secret(hexadecimal, "xyz") == "should be hex, as secret_encoding says"


def test_secrets_in_hex_and_base64() -> None:
    key = hashlib.sha256(b"k").digest()
    signature = hmac.new(key, BODY, "sha1").hexdigest()
    for encoding, text in (("hex", key.hex()), ("base64", base64.b64encode(key).decode())):
        found = verifier("hmac", text, header="X-S", algorithm="sha1", secret_encoding=encoding)
        assert found.verify(delivery(BODY, {"X-S": signature})) is None


def test_nothing_shows_a_secret() -> None:
    found = verifier("github", "hush-hush")
    assert "hush" not in repr(found) + repr(ActiveSecret("hush-hush"))


def test_the_workspace_of_an_address() -> None:
    assert workspace_of(b"a=1&workspace=main") == "main"
    assert workspace_of(b"workspace=a&workspace=b") == "a"
    assert workspace_of(b"a=1") is None
    assert workspace_of(b"workspace=%ff") is None
