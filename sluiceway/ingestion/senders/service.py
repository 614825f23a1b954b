"""From a pipeline's settings and its stored secrets to one `Verifier`. Pure: no database, no HTTP."""

import logging
import time
from collections.abc import Callable, Sequence

from sluiceway.catalog.senders import AnyVerify, SlackVerify
from sluiceway.ingestion.senders.challenges import (
    check_not_signed_for_strangers,
    handshake,
    signed_challenge,
    slack_challenge,
)
from sluiceway.ingestion.senders.contracts import ActiveSecret, Delivery, Headers, Reply
from sluiceway.ingestion.senders.errors import SenderSecretMissing
from sluiceway.ingestion.senders.schemes import make_scheme

log = logging.getLogger("sluiceway.ingestion")


def make_verifier(
    spec: AnyVerify, secrets: Sequence[ActiveSecret], *, time_s: Callable[[], float] = time.time
) -> "SchemeVerifier":
    """The verifier of a pipeline. Secrets that its scheme cannot use (it was changed) are left out."""
    return SchemeVerifier(spec, secrets, time_s)


def check_secret(spec: AnyVerify, value: str) -> str | None:
    """What is wrong with a secret for this scheme, as a sentence's end, or None."""
    try:
        make_scheme(spec).key(value)
    except ValueError as error:
        return str(error)
    return None


class SchemeVerifier:
    """See `contracts.Verifier`. Keeps nothing between calls; safe in several threads."""

    def __init__(
        self, spec: AnyVerify, secrets: Sequence[ActiveSecret], time_s: Callable[[], float] = time.time
    ) -> None:
        self._spec = spec
        self._time_s = time_s
        self._scheme = make_scheme(spec)
        self._secrets = tuple(secrets)
        self._keys: list[tuple[object, str, float]] = []
        for secret in secrets:
            if secret.purpose != "signature":
                continue
            try:
                key = self._scheme.key(secret.value)
            except ValueError as error:
                log.warning("a secret is left out: for the scheme %s it %s", spec.scheme, error)
                continue
            self._keys.append((key, secret.value, secret.expires_at_s))

    def __repr__(self) -> str:
        return f"SchemeVerifier({self._spec.scheme}, {len(self._keys)} secrets)"

    def handshake(self, method: str, query: bytes, headers: Headers) -> Reply | None:
        """See `contracts.Verifier`."""
        if self._spec.challenge is None:
            return None
        now = self._time_s()
        secrets = [s.value for s in self._secrets if s.purpose == "signature" and s.expires_at_s > now]
        tokens = [s.value for s in self._secrets if s.purpose == "challenge" and s.expires_at_s > now]
        return handshake(self._spec.challenge, method, query, headers, secrets=secrets, tokens=tokens)

    def verify(self, delivery: Delivery) -> Reply | None:
        """See `contracts.Verifier`."""
        reply = self.handshake(delivery.method, delivery.query, delivery.headers)
        if reply is not None:
            return reply
        valid = [(key, value) for key, value, expires_at_s in self._keys if expires_at_s > delivery.now]
        if not valid:
            raise SenderSecretMissing(
                "This pipeline has no valid secret for its senders: add one with 'sluiceway secret add'."
            )
        check_not_signed_for_strangers(self._spec.challenge, delivery.body)
        self._scheme.check(delivery, [key for key, _ in valid])
        if isinstance(self._spec, SlackVerify):
            return slack_challenge(delivery)
        return signed_challenge(self._spec.challenge, delivery, [value for _, value in valid])
