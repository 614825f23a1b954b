"""How a sender proves who it is: `source.verify` in a pipeline's file, one model for each scheme.

Belongs here: the settings of the schemes, how long each sender tries again, and which part of a delivery
tells it from another. Not here: checking a signature (`sluiceway.ingestion.senders`), and no secret ever:
those are kept sealed in the database (`sluiceway secret add`).
"""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from sluiceway.catalog.base import Duration, EventPath, Strict

DEFAULT_TOLERANCE_S = 300
MAX_TOLERANCE_S = 86_400
HEADER_PATTERN = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_TIME_RUNS_ON = re.compile(r"\{timestamp\}[0-9{]")
_PLAIN_PLACEHOLDERS = frozenset({"body", "timestamp", "method", "path", "query", "url"})

HeaderName = Annotated[str, Field(pattern=HEADER_PATTERN)]
Tolerance = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_TOLERANCE_S,
        description="Seconds by which the signed time may differ from ours, into the past or the future.",
    ),
]


class MetaChallenge(Strict):
    """GET with hub.mode=subscribe: hub.verify_token must be a secret added with `--purpose challenge`."""

    type: Literal["meta"]


class WebSubChallenge(Strict):
    """W3C WebSub: GET with hub.mode and hub.challenge, confirmed for one topic only."""

    type: Literal["websub"]
    topic: str = Field(min_length=1, max_length=2000, description="The topic's address, as subscribed to.")


class GraphChallenge(Strict):
    """Microsoft Graph: POST with validationToken in the query, sent back as text."""

    type: Literal["microsoft-graph"]


class XChallenge(Strict):
    """X (Twitter) CRC: GET with crc_token, answered with its HMAC under the first secret."""

    type: Literal["x"]


class ZoomChallenge(Strict):
    """Zoom: a signed event endpoint.url_validation, answered with the HMAC of its plainToken."""

    type: Literal["zoom"]


class CloudEventsChallenge(Strict):
    """CloudEvents web hooks: OPTIONS with WebHook-Request-Origin."""

    type: Literal["cloudevents"]
    origins: list[str] | None = Field(
        default=None, min_length=1, max_length=50, description="Origins that may send; absent: any that asks."
    )
    rate: int | None = Field(
        default=None, ge=1, description="Requests a minute that are allowed; absent: no limit is told."
    )


class DropboxChallenge(Strict):
    """Dropbox: GET with challenge, sent back as text."""

    type: Literal["dropbox"]


Challenge = Annotated[
    MetaChallenge
    | WebSubChallenge
    | GraphChallenge
    | XChallenge
    | ZoomChallenge
    | CloudEventsChallenge
    | DropboxChallenge,
    Field(discriminator="type"),
]


class _Verify(Strict):
    """What every scheme has. `RETRIES`: how long the sender's documentation says it tries again.

    `DELIVERY_ID`: paths whose values together tell one delivery from another, the same on a retry.
    """

    RETRIES: ClassVar[timedelta] = timedelta(0)
    DELIVERY_ID: ClassVar[tuple[str, ...]] = ()

    challenge: Challenge | None = Field(
        default=None, description="A handshake that the sender makes besides signing."
    )

    @property
    def retry_horizon(self) -> timedelta:
        """For how long after the first try the same delivery may come again."""
        return self.RETRIES

    @property
    def delivery_id(self) -> tuple[str, ...]:
        return self.DELIVERY_ID


class GithubVerify(_Verify):
    """GitHub: HMAC-SHA256 of the body in X-Hub-Signature-256."""

    # It redelivers only when asked to, which its page and its API offer for 3 days.
    RETRIES = timedelta(days=3)
    DELIVERY_ID = ("header:x-github-delivery",)

    scheme: Literal["github"]


class StripeVerify(_Verify):
    """Stripe: HMAC-SHA256 of time and body in Stripe-Signature."""

    RETRIES = timedelta(days=3)
    DELIVERY_ID = ("id",)

    scheme: Literal["stripe"]
    tolerance_s: Tolerance = DEFAULT_TOLERANCE_S


class ShopifyVerify(_Verify):
    """Shopify: HMAC-SHA256 of the body, base64, in X-Shopify-Hmac-Sha256."""

    # 8 tries within 4 hours. One act can cause webhooks of several topics, all with the same event id.
    RETRIES = timedelta(hours=4)
    DELIVERY_ID = ("header:x-shopify-topic", "header:x-shopify-event-id")

    scheme: Literal["shopify"]


class SlackVerify(_Verify):
    """Slack: HMAC-SHA256 of version, time and body in X-Slack-Signature; answers url_verification."""

    # Three tries within minutes; with Delayed Events on, hourly for a day.
    RETRIES = timedelta(days=1)
    DELIVERY_ID = ("event_id",)

    scheme: Literal["slack"]
    tolerance_s: Tolerance = DEFAULT_TOLERANCE_S


class StandardWebhooksVerify(_Verify):
    """Standard Webhooks: v1 (HMAC-SHA256) and v1a (ed25519) of id, time and body."""

    # The specification's example schedule: 10 tries, the last about 75.6 hours after the first.
    RETRIES = timedelta(hours=76)

    scheme: Literal["standard-webhooks"]
    tolerance_s: Tolerance = DEFAULT_TOLERANCE_S
    header_prefix: Annotated[
        str,
        Field(pattern=r"^[a-z0-9-]{1,40}-$", description="`webhook-`, or `svix-` for Svix's own headers."),
    ] = "webhook-"

    @property
    def delivery_id(self) -> tuple[str, ...]:
        return (f"header:{self.header_prefix}id",)


class TwilioVerify(_Verify):
    """Twilio: HMAC-SHA1 of the public address and the sorted form fields in X-Twilio-Signature."""

    # Event Streams; other webhooks are tried again for seconds only.
    RETRIES = timedelta(hours=4)
    DELIVERY_ID = ("header:i-twilio-idempotency-token",)

    scheme: Literal["twilio"]
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        max_length=2000,
        description="The address as set at Twilio; absent: this server's public address and what was asked.",
    )


class _Own(_Verify):
    """What the pipeline's author must say of a sender that has no scheme of its own."""

    retries: Duration | None = Field(
        default=None, description="How long the sender tries again; `dedupe.window` must be at least that."
    )
    id: EventPath | None = Field(
        default=None, description="Where a delivery's own id is, used if `event.id` is absent."
    )

    @property
    def retry_horizon(self) -> timedelta:
        return self.retries or timedelta(0)

    @property
    def delivery_id(self) -> tuple[str, ...]:
        return () if self.id is None else (self.id,)


class HmacVerify(_Own):
    """Any HMAC: which header, which algorithm, written how, over what."""

    scheme: Literal["hmac"]
    header: HeaderName
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = Field(default="", max_length=50, description="What stands before the signature: `sha256=`.")
    payload: str = Field(
        default="{body}",
        max_length=500,
        description="What is signed, with {body}, {timestamp}, {method}, {path}, {query}, {url} or"
        " {header:name} in it.",
    )
    timestamp_header: HeaderName | None = Field(
        default=None, description="Unix time in seconds or milliseconds, or ISO 8601; must be signed."
    )
    tolerance_s: Tolerance = DEFAULT_TOLERANCE_S
    secret_encoding: Literal["text", "hex", "base64"] = "text"  # noqa: S105  # how it is written, not what

    @model_validator(mode="after")
    def _payload_is_signed(self) -> "HmacVerify":
        names = _PLACEHOLDER.findall(self.payload)
        for name in names:
            header = name.removeprefix("header:") if name.startswith("header:") else None
            if name not in _PLAIN_PLACEHOLDERS and not (header and re.fullmatch(HEADER_PATTERN, header)):
                raise ValueError(f"payload: {{{name}}} is not known")
        if "{" in _PLACEHOLDER.sub("", self.payload) or "}" in _PLACEHOLDER.sub("", self.payload):
            raise ValueError("payload: a brace is not closed")
        if _TIME_RUNS_ON.search(self.payload):
            raise ValueError(
                "payload: what follows {timestamp} should begin with a character that is no digit"
                " ({timestamp}.{body}), or digits could be moved from one to the other"
            )
        if "body" not in names:
            raise ValueError("payload: should contain {body}, or a signature would fit any body")
        if ("timestamp" in names) != (self.timestamp_header is not None):
            raise ValueError("timestamp_header and {timestamp} in payload go together: a time must be signed")
        return self


class BasicVerify(_Own):
    """User name and password (RFC 7617); the password is the secret."""

    scheme: Literal["basic"]
    username: str = Field(min_length=1, max_length=200, pattern=r"^[^:]+$")


class KeyVerify(_Own):
    """The secret itself, in a header or in the query."""

    scheme: Literal["key"]
    header: HeaderName | None = None
    query: str | None = Field(default=None, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.~-]+$")
    prefix: str = Field(default="", max_length=50, description="What stands before the key: `Token `.")

    @model_validator(mode="after")
    def _one_place(self) -> "KeyVerify":
        if (self.header is None) == (self.query is None):
            raise ValueError("should have either header or query")
        return self


AnyVerify = (
    GithubVerify
    | StripeVerify
    | ShopifyVerify
    | SlackVerify
    | StandardWebhooksVerify
    | TwilioVerify
    | HmacVerify
    | BasicVerify
    | KeyVerify
)
VerifySpec = Annotated[AnyVerify, Field(discriminator="scheme")]
