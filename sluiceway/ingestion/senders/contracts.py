"""What the event route and the schemes tell one another.

The route first calls `handshake` with method, query and headers: a `Reply` is sent as it is and nothing is
stored. It then reads the body and calls `verify` with the whole delivery before anything else looks at the
bytes. Both are pure and may be called in a thread; neither ever raises anything but `Unauthenticated`.
Not here: HTTP (`api`), secrets at rest (`senders.secrets`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

from sluiceway.kit.forms import Pairs, form_pairs

Headers = list[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case, values as sent."""

_MAX_QUERY_FIELDS = 200


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request as its sender made it.

    `query`: the bytes behind the question mark. `body`: raw, before any decompression. `now`: Unix seconds.
    `url`: the public address as the sender saw it, query included. `pairs`: how a form is taken apart.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes
    now: float
    url: str
    pairs: Callable[[bytes], Pairs | None] = form_pairs


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a challenge. `headers`: besides content type and length; lower-case names."""

    status: int
    media_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ((b"x-content-type-options", b"nosniff"),)


class Verifier(Protocol):
    """Checks deliveries to one pipeline against its scheme and its active secrets."""

    def handshake(self, method: str, query: bytes, headers: Headers) -> Reply | None:
        """The answer to a challenge that carries no event, before any body is read; None: it is none.

        Raises `ChallengeRefused`.
        """
        ...

    def verify(self, delivery: Delivery) -> Reply | None:
        """None: the delivery is its sender's. A `Reply`: it was a challenge, and nothing is to be stored.

        Raises `SignatureMissing`, `SignatureMalformed`, `SignatureInvalid`, `SignatureStale`,
        `CredentialsMissing`, `CredentialsInvalid`, `SenderSecretMissing`, `ChallengeRefused`: all 401.
        """
        ...


@dataclass(frozen=True, slots=True)
class ActiveSecret:
    """A secret in the clear, for as long as it is valid (Unix seconds). `purpose`: signature or challenge."""

    value: str = field(repr=False)
    purpose: str = "signature"
    expires_at_s: float = float("inf")


def workspace_of(query: bytes) -> str | None:
    """The workspace that an address names (`?workspace=<slug>`), or None. Said twice: the first counts."""
    return query_fields(query).get("workspace") if b"workspace" in query else None


def query_fields(query: bytes) -> Mapping[str, str]:
    """The fields of a query, the first of each name; empty where it cannot be read."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(
            query.decode("latin-1"),
            keep_blank_values=True,
            max_num_fields=_MAX_QUERY_FIELDS,
            errors="strict",
        )
    except ValueError:
        return found
    for name, value in pairs:
        found.setdefault(name, value)
    return found
