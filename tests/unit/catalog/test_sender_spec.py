"""`source.verify` in a pipeline's file: what is taken, and what each mistake is told."""

from typing import Any

import jsonschema
import pytest
import yaml

from sluiceway.catalog.contracts import PipelineSpec, json_schema
from sluiceway.catalog.errors import InvalidPipeline
from sluiceway.catalog.service import parse


def source(verify: str, more: str = "") -> str:
    return f"name: deliveries\nsource:\n  verify: {verify}\nfields: [{{name: a, type: string}}]\n{more}"


GOOD = [
    "{scheme: github}",
    "{scheme: github, challenge: {type: meta}}",
    "{scheme: stripe, tolerance_s: 60}",
    "{scheme: shopify}",
    "{scheme: slack}",
    "{scheme: standard-webhooks, header_prefix: svix-}",
    "{scheme: twilio, url: 'https://example.com/hook?a=1'}",
    "{scheme: hmac, header: X-Signature}",
    "{scheme: hmac, header: X-S, algorithm: sha1, encoding: base64, prefix: 'v1=',"
    " payload: '{timestamp}.{body}', timestamp_header: X-T, tolerance_s: 30, secret_encoding: hex,"
    " retries: 2d, id: 'header:x-id'}",
    "{scheme: basic, username: probe}",
    "{scheme: key, header: X-Api-Key, prefix: 'Token '}",
    "{scheme: key, query: token, challenge: {type: cloudevents, origins: [a.example], rate: 60}}",
    "{scheme: key, query: token, challenge: {type: microsoft-graph}}",
    "{scheme: hmac, header: X-S, challenge: {type: websub, topic: 'https://example.com/feed'}}",
]


@pytest.mark.parametrize("verify", GOOD)
def test_good_ones_come_back_as_they_were(verify: str) -> None:
    spec = parse(source(verify))
    assert spec.source.verify is not None
    kept = spec.model_dump(mode="json", exclude_defaults=False)
    assert PipelineSpec.model_validate(kept) == spec
    jsonschema.Draft202012Validator(json_schema()).validate(yaml.safe_load(source(verify)))


BAD: list[tuple[str, str, str]] = [
    ("{scheme: gitlab}", "source.verify", "'github', 'stripe'"),
    ("{}", "source.verify", "scheme"),
    ("{scheme: github, secret: hush}", "source.verify.secret", "is not a known field"),
    ("{scheme: stripe, tolerance_s: 0}", "source.verify.tolerance_s", "greater than or equal to 1"),
    ("{scheme: stripe, tolerance_s: 90000}", "source.verify.tolerance_s", "86400"),
    ("{scheme: hmac}", "source.verify.header", "is required"),
    ("{scheme: hmac, header: 'X Y'}", "source.verify.header", "pattern"),
    ("{scheme: hmac, header: X, algorithm: md5}", "source.verify.algorithm", "'sha1', 'sha256' or 'sha512'"),
    ("{scheme: hmac, header: X, payload: '{timestamp}'}", "source.verify", "{body}"),
    ("{scheme: hmac, header: X, payload: '{timestamp}.{body}'}", "source.verify", "timestamp_header"),
    (
        "{scheme: hmac, header: X, payload: '{timestamp}{body}', timestamp_header: T}",
        "source.verify",
        "no digit",
    ),
    (
        "{scheme: hmac, header: X, payload: '{timestamp}0.{body}', timestamp_header: T}",
        "source.verify",
        "no digit",
    ),
    ("{scheme: hmac, header: X, timestamp_header: T}", "source.verify", "must be signed"),
    ("{scheme: hmac, header: X, payload: '{body}{secret}'}", "source.verify", "{secret} is not known"),
    ("{scheme: hmac, header: X, payload: '{body'}", "source.verify", "brace"),
    ("{scheme: basic}", "source.verify.username", "is required"),
    ("{scheme: basic, username: 'a:b'}", "source.verify.username", "pattern"),
    ("{scheme: key}", "source.verify", "either header or query"),
    ("{scheme: key, header: X, query: t}", "source.verify", "either header or query"),
    ("{scheme: github, challenge: {type: facebook}}", "source.verify.challenge", "'meta'"),
    ("{scheme: github, challenge: {type: websub}}", "source.verify.challenge.topic", "is required"),
]


@pytest.mark.parametrize(("verify", "field", "text"), BAD, ids=[b[0] for b in BAD])
def test_bad_ones_name_the_field(verify: str, field: str, text: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        parse(source(verify))
    error = caught.value.errors[0]
    assert error.field == field and error.line == 3
    assert text in error.message


@pytest.mark.parametrize(
    ("verify", "window", "least"),
    [
        ("{scheme: github}", "71h", "3d"),
        ("{scheme: stripe}", "2d", "3d"),
        ("{scheme: shopify}", "3h", "4h"),
        ("{scheme: slack}", "23h", "1d"),
        ("{scheme: standard-webhooks}", "3d", "76h"),
        ("{scheme: twilio}", "1h", "4h"),
        ("{scheme: hmac, header: X, retries: 30d}", "29d", "30d"),
    ],
)
def test_the_window_is_at_least_the_senders_retry_horizon(verify: str, window: str, least: str) -> None:
    with pytest.raises(InvalidPipeline) as caught:
        parse(source(verify, f"dedupe: {{window: {window}}}\n"))
    (error,) = caught.value.errors
    assert (error.field, error.line) == ("dedupe.window", 5)
    assert error.message.startswith(f"is {window}, but should be at least {least}:")
    assert parse(source(verify, f"dedupe: {{window: {least}}}\n")).dedupe.window is not None


def test_a_default_window_that_is_too_short_is_named_too() -> None:
    with pytest.raises(InvalidPipeline) as caught:
        parse(source("{scheme: basic, username: u, retries: 30d}"))
    (error,) = caught.value.errors
    assert error.field == "dedupe.window" and error.message.startswith("is 7d, but should be at least 30d")


def spec_of(verify: dict[str, Any] | None, **more: Any) -> PipelineSpec:
    fields = [{"name": "kind", "path": "header:X-Kind", "type": "string"}]
    return PipelineSpec.model_validate(
        {"name": "deliveries", "source": {"verify": verify}, "fields": fields, **more}
    )


def test_which_headers_are_kept() -> None:
    assert spec_of(None, event={"id": "id"}).header_names == ("x-kind",)
    assert spec_of(None).header_names == ("idempotency-key", "x-kind")
    github = spec_of({"scheme": "github"})
    assert github.header_names == ("idempotency-key", "x-github-delivery", "x-kind")
    assert spec_of({"scheme": "github"}, event={"id": "id"}).header_names == ("x-kind",)
    shopify = spec_of({"scheme": "shopify"})
    assert shopify.delivery_id_paths == ("header:x-shopify-topic", "header:x-shopify-event-id")
    svix = spec_of({"scheme": "standard-webhooks", "header_prefix": "svix-"})
    assert svix.delivery_id_paths == ("header:svix-id",)
    assert spec_of({"scheme": "stripe"}).delivery_id_paths == ("id",)
    assert spec_of({"scheme": "key", "query": "k", "id": "header:X-Id"}).header_names == (
        "idempotency-key", "x-id", "x-kind",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"event": {"id": "header:Authorization"}}, "event.id"),
        ({"event": {"id": ["id", "header:cookie"]}}, "event.id"),
        ({"event": {"time": "header:proxy-authorization"}}, "event.time"),
        ({"fields": [{"name": "a", "type": "string", "path": "header: COOKIE "}]}, "fields.0.path"),
        (
            {"source": {"verify": {"scheme": "basic", "username": "u", "id": "header:cookie"}}},
            "source.verify.id",
        ),
    ],
)
def test_no_path_reads_credentials(more: dict[str, Any], field: str) -> None:
    document = {"name": "deliveries", "fields": [{"name": "a", "type": "string"}], **more}
    with pytest.raises(InvalidPipeline) as caught:
        parse(yaml.safe_dump(document))
    assert any(e.field.startswith(field) and "credentials" in e.message for e in caught.value.errors)


def test_no_path_reads_the_senders_key() -> None:
    verify = "{scheme: key, header: X-Kind}"
    with pytest.raises(InvalidPipeline) as caught:
        parse(source(verify, "event: {id: 'header:x-kind'}\n"))
    assert "holds the sender's secret" in caught.value.errors[0].message
    assert parse(source(verify, "event: {id: 'header:x-other'}\n"))
