"""Handshakes by which senders make sure that an address wants their deliveries. Nothing is stored for one.

What is sent back is text, never markup, and short. Where an answer is an HMAC under the secret that also
signs events, nothing is signed that could itself be an event's body.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sluiceway.catalog.senders import (
    Challenge,
    CloudEventsChallenge,
    DropboxChallenge,
    GraphChallenge,
    MetaChallenge,
    WebSubChallenge,
    XChallenge,
    ZoomChallenge,
)
from sluiceway.ingestion.senders.contracts import Delivery, Headers, Reply, query_fields
from sluiceway.ingestion.senders.errors import ChallengeRefused, SenderSecretMissing, SignatureInvalid
from sluiceway.ingestion.senders.signatures import header, one_fits

MAX_CHALLENGE_CHARACTERS = 2048
_CRC_TOKEN = re.compile(r"[A-Za-z0-9+/_.-]{1,256}={0,2}")


def handshake(
    challenge: Challenge | None,
    method: str,
    query: bytes,
    headers: Headers,
    *,
    secrets: Sequence[str],
    tokens: Sequence[str],
) -> Reply | None:
    """The answer to a handshake without a body, or None where the request is none.

    `secrets` sign events; `tokens` were added for challenges. Raises `ChallengeRefused`,
    `SenderSecretMissing`.
    """
    match challenge:
        case MetaChallenge() if method == "GET":
            return _meta(query_fields(query), tokens)
        case WebSubChallenge() if method == "GET":
            return _websub(challenge, query_fields(query))
        case DropboxChallenge() if method == "GET":
            return _text(_field(query_fields(query), "challenge"))
        case XChallenge() if method == "GET":
            return _crc(_field(query_fields(query), "crc_token"), secrets)
        case GraphChallenge() if method == "POST" and b"validationToken" in query:
            return _text(_field(query_fields(query), "validationToken"))
        case CloudEventsChallenge() if method == "OPTIONS":
            return _cloud_events(challenge, headers)
    return None


def signed_challenge(challenge: Challenge | None, delivery: Delivery, secrets: Sequence[str]) -> Reply | None:
    """The answer to a challenge that comes as a signed event (Zoom); None: it is an event."""
    if not isinstance(challenge, ZoomChallenge) or b"endpoint.url_validation" not in delivery.body:
        return None
    event = _object(delivery.body)
    if event.get("event") != "endpoint.url_validation":
        return None
    payload = event.get("payload")
    token = payload.get("plainToken") if isinstance(payload, dict) else None
    if not isinstance(token, str) or len(token) > MAX_CHALLENGE_CHARACTERS or not secrets:
        raise ChallengeRefused("payload.plainToken is missing.")
    answer = {"plainToken": token, "encryptedToken": _hmac(secrets[0], token).hex()}
    return Reply(200, "application/json", msgspec.json.encode(answer))


def check_not_signed_for_strangers(challenge: Challenge | None, body: bytes) -> None:
    """Anyone may have a crc_token signed with the secret that signs events: so no body may be one.

    Raises `SignatureInvalid`.
    """
    if (
        isinstance(challenge, XChallenge)
        and len(body) <= 258
        and _CRC_TOKEN.fullmatch(body.decode("latin-1"))
    ):
        raise SignatureInvalid("The body is what a challenge could have had signed.")


def slack_challenge(delivery: Delivery) -> Reply | None:
    """The answer to Slack's signed url_verification; None: it is an event."""
    if b"url_verification" not in delivery.body:
        return None
    event = _object(delivery.body)
    if event.get("type") != "url_verification":
        return None
    challenge = event.get("challenge")
    if not isinstance(challenge, str) or len(challenge) > MAX_CHALLENGE_CHARACTERS:
        raise ChallengeRefused("challenge is missing.")
    return _text(challenge)


def _meta(fields: Mapping[str, str], tokens: Sequence[str]) -> Reply:
    if fields.get("hub.mode") != "subscribe":
        raise ChallengeRefused("hub.mode should be subscribe.")
    if not tokens:
        raise SenderSecretMissing("Add the verify token with 'sluiceway secret add --purpose challenge'.")
    given = fields.get("hub.verify_token", "").encode()
    if not one_fits([token.encode() for token in tokens], [given]):
        raise ChallengeRefused("hub.verify_token is not one of this pipeline's.")
    return _text(_field(fields, "hub.challenge"))


def _websub(challenge: WebSubChallenge, fields: Mapping[str, str]) -> Reply:
    if fields.get("hub.mode") not in ("subscribe", "unsubscribe"):
        raise ChallengeRefused("hub.mode should be subscribe or unsubscribe.")
    if not hmac.compare_digest(fields.get("hub.topic", "").encode(), challenge.topic.encode()):
        raise ChallengeRefused("hub.topic is not the pipeline's.")
    return _text(_field(fields, "hub.challenge"))


def _crc(token: str, secrets: Sequence[str]) -> Reply:
    if not _CRC_TOKEN.fullmatch(token):
        raise ChallengeRefused("crc_token should be up to 256 letters, digits and +/_.-=.")
    if not secrets:
        raise SenderSecretMissing("Add the consumer secret with 'sluiceway secret add'.")
    answer = {"response_token": "sha256=" + b64encode(_hmac(secrets[0], token)).decode()}
    return Reply(200, "application/json", msgspec.json.encode(answer))


def _cloud_events(challenge: CloudEventsChallenge, headers: Headers) -> Reply | None:
    origin = header(headers, b"webhook-request-origin")
    if origin is None:
        return None
    text = origin.decode("latin-1")
    if len(text) > 255 or (challenge.origins is not None and text not in challenge.origins):
        raise ChallengeRefused("WebHook-Request-Origin may not send here.")
    allowed = [(b"webhook-allowed-origin", origin), (b"allow", b"POST")]
    if challenge.rate is not None:
        allowed.append((b"webhook-allowed-rate", b"%d" % challenge.rate))
    elif header(headers, b"webhook-request-rate") is not None:
        allowed.append((b"webhook-allowed-rate", b"*"))
    return Reply(200, "text/plain; charset=utf-8", b"", tuple(allowed))


def _field(fields: Mapping[str, str], name: str) -> str:
    found = fields.get(name)
    if not found or len(found) > MAX_CHALLENGE_CHARACTERS:
        raise ChallengeRefused(f"{name} should have 1 to {MAX_CHALLENGE_CHARACTERS} characters.")
    return found


def _text(text: str) -> Reply:
    return Reply(200, "text/plain; charset=utf-8", text.encode())


def _hmac(secret: str, text: str) -> bytes:
    return hmac.digest(secret.encode(), text.encode(), "sha256")


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; empty where it is none (the event's own checks say what is wrong)."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
