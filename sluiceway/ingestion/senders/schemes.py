"""One class for each scheme: what is signed, where the signature is, what a secret must look like.

Each is made of its settings and checks one delivery with the secrets it is given. Not here: reading and
comparing (`signatures`), which secrets are valid just now (`service`), handshakes (`challenges`).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sluiceway.catalog.senders import (
    AnyVerify,
    BasicVerify,
    GithubVerify,
    HmacVerify,
    KeyVerify,
    ShopifyVerify,
    SlackVerify,
    StandardWebhooksVerify,
    StripeVerify,
    TwilioVerify,
)
from sluiceway.ingestion.senders.contracts import Delivery, query_fields
from sluiceway.ingestion.senders.errors import (
    CredentialsInvalid,
    CredentialsMissing,
    SignatureInvalid,
    SignatureMalformed,
)
from sluiceway.ingestion.senders.signatures import (
    MAX_SIGNATURES,
    SIZES,
    Algorithm,
    Encoding,
    check_fits,
    check_time,
    digest,
    header,
    one_fits,
    read_signature,
    read_timestamp,
    required,
)
from sluiceway.kit.forms import FORM_TYPE, media_type

_ED25519_BYTES = 64
_MOST_PUBLIC = 4  # signatures of v1a that are tried: each costs the body's hash for each public key
_HASHED_BODY = "bodySHA256"
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Scheme(Protocol):
    def key(self, secret: str) -> object:
        """A stored secret as the scheme uses it. Raises `ValueError` (a sentence) for one that cannot be."""
        ...

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        """Raises one of `senders.errors` unless one of `keys` made the signature. `keys` is not empty."""
        ...


class _BodyHmac:
    """HMAC of the body alone in one header: GitHub, Shopify."""

    def __init__(self, name: bytes, algorithm: Algorithm, encoding: Encoding, prefix: bytes = b"") -> None:
        self._name = name
        self._algorithm = algorithm
        self._encoding = encoding
        self._prefix = prefix

    def key(self, secret: str) -> bytes:
        return secret.encode()

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        text = _without_prefix(required(delivery.headers, self._name), self._prefix)
        given = read_signature(text, self._encoding, SIZES[self._algorithm])
        check_fits((digest(_bytes(k), delivery.body, self._algorithm) for k in keys), [given])


class _Stripe:
    """`Stripe-Signature: t=<s>,v1=<hex>,v1=<hex>` over `<t>.<body>`."""

    def __init__(self, spec: StripeVerify) -> None:
        self._tolerance_s = spec.tolerance_s

    def key(self, secret: str) -> bytes:
        return secret.encode()

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        at: bytes | None = None
        given: list[bytes] = []
        for part in required(delivery.headers, b"stripe-signature").split(b","):
            name, _, value = part.strip().partition(b"=")
            if name == b"t":
                if at is not None:
                    raise SignatureMalformed("Stripe-Signature has two times.")
                at = value
            elif name == b"v1":
                given.append(read_signature(value, "hex", 32))
        if at is None or not given:
            raise SignatureMalformed("Stripe-Signature should have t=<seconds> and v1=<signature>.")
        _check_count(given)
        at_s = read_timestamp(at)
        message = at + b"." + delivery.body
        check_fits((digest(_bytes(k), message, "sha256") for k in keys), given)
        check_time(at_s, delivery.now, self._tolerance_s)


class _StandardWebhooks:
    """`v1,<base64>` (HMAC-SHA256) and `v1a,<base64>` (ed25519), separated by spaces, over `<id>.<t>.<body>`.

    A secret is `whsec_<base64>` for v1 or the sender's public key `whpk_<base64>` for v1a.
    """

    def __init__(self, spec: StandardWebhooksVerify) -> None:
        prefix = spec.header_prefix.encode()
        self._names = tuple(prefix + part for part in (b"id", b"timestamp", b"signature"))
        self._tolerance_s = spec.tolerance_s

    def key(self, secret: str) -> bytes | Ed25519PublicKey:
        public = secret.startswith("whpk_")
        text = secret.removeprefix("whpk_").removeprefix("whsec_")
        try:
            found = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if secret.startswith("whsk_"):
            raise ValueError("is the sender's private key: give its public key, whpk_…")
        if public:
            if len(found) != 32:
                raise ValueError("should be whpk_ and 32 bytes in base64")
            return Ed25519PublicKey.from_public_bytes(found)
        if len(found) < 8:
            raise ValueError("should be whsec_ and base64, as the sender shows it")
        return found

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        own_id, at, signatures = (required(delivery.headers, name) for name in self._names)
        hashed: list[bytes] = []
        signed: list[bytes] = []
        for part in signatures.split():
            version, _, value = part.partition(b",")
            if version == b"v1":
                hashed.append(read_signature(value, "base64", 32))
            elif version == b"v1a":
                signed.append(read_signature(value, "base64", _ED25519_BYTES))
        if not hashed and not signed:
            raise SignatureMalformed("The signature should be v1,<base64> or v1a,<base64>.")
        _check_count([*hashed, *signed])
        at_s = read_timestamp(at)
        message = b".".join((own_id, at, delivery.body))
        fits = one_fits((digest(k, message, "sha256") for k in keys if isinstance(k, bytes)), hashed)
        for key in keys:
            if isinstance(key, Ed25519PublicKey):
                for signature in signed[:_MOST_PUBLIC]:
                    fits |= _verifies(key, signature, message)
        if not fits:
            raise SignatureInvalid("The signature fits none of the pipeline's secrets and these bytes.")
        check_time(at_s, delivery.now, self._tolerance_s)


class _Twilio:
    """HMAC-SHA1, base64, over the address and the form's fields by name; of another body its SHA-256.

    Twilio may or may not have written the port into the address it signed: both are tried.
    """

    def __init__(self, spec: TwilioVerify) -> None:
        self._url = spec.url

    def key(self, secret: str) -> bytes:
        return secret.encode()

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        text = required(delivery.headers, b"x-twilio-signature")
        given = read_signature(text, "base64", SIZES["sha1"])
        url = self._signed_url(delivery)
        fields = self._fields(delivery, url)
        messages = [(address + fields).encode() for address in _with_and_without_port(url)]
        check_fits((digest(_bytes(k), m, "sha1") for k in keys for m in messages), [given])

    def _signed_url(self, delivery: Delivery) -> str:
        """The query is always the request's own: nothing is believed of it that was not signed."""
        if self._url is None:
            return delivery.url
        base = self._url.partition("?")[0]
        return f"{base}?{delivery.query.decode('latin-1')}" if delivery.query else base

    def _fields(self, delivery: Delivery, url: str) -> str:
        content_type = next((v for k, v in delivery.headers if k == b"content-type"), b"")
        if media_type(content_type) == FORM_TYPE:
            pairs = delivery.pairs(delivery.body)
            if pairs is None:
                raise SignatureInvalid("The form cannot be read, so no signature fits it.")
            return "".join(name + value for name, value in sorted(set(pairs)))
        query = url.partition("?")[2].encode("latin-1", "replace")
        stated = query_fields(query).get(_HASHED_BODY, "")
        real = hashlib.sha256(delivery.body).hexdigest()
        if delivery.body and not one_fits([real.encode()], [stated.lower().encode()]):
            raise SignatureInvalid("bodySHA256 in the address is not the body's.")
        return ""


class _Hmac:
    """HMAC as the pipeline describes it."""

    def __init__(self, spec: HmacVerify) -> None:
        self._spec = spec
        self._name = spec.header.lower().encode()
        self._prefix = spec.prefix.encode()
        self._time_name = spec.timestamp_header.lower().encode() if spec.timestamp_header else None
        # Text and names in turn; every odd one is a placeholder's name.
        self._parts = _PLACEHOLDER.split(spec.payload)

    def key(self, secret: str) -> bytes:
        try:
            match self._spec.secret_encoding:
                case "hex":
                    found = bytes.fromhex(secret)
                case "base64":
                    found = base64.b64decode(secret, validate=True)
                case "text":
                    found = secret.encode()
        except (binascii.Error, ValueError):
            found = b""
        if not found:
            raise ValueError(f"should be {self._spec.secret_encoding}, as secret_encoding says")
        return found

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        spec = self._spec
        text = _without_prefix(required(delivery.headers, self._name), self._prefix)
        given = read_signature(text, spec.encoding, SIZES[spec.algorithm])
        at = required(delivery.headers, self._time_name) if self._time_name is not None else b""
        at_s = read_timestamp(at) if self._time_name is not None else None
        message = self._message(delivery, at)
        check_fits((digest(_bytes(k), message, spec.algorithm) for k in keys), [given])
        if at_s is not None:
            check_time(at_s, delivery.now, spec.tolerance_s)

    def _message(self, delivery: Delivery, at: bytes) -> bytes:
        if self._spec.payload == "{body}":
            return delivery.body
        values: dict[str, Callable[[], bytes]] = {
            "body": lambda: delivery.body,
            "timestamp": lambda: at,
            "method": delivery.method.encode,
            "path": delivery.path.encode,
            "query": lambda: delivery.query,
            "url": delivery.url.encode,
        }
        found: list[bytes] = []
        for number, part in enumerate(self._parts):
            if number % 2 == 0:
                found.append(part.encode())
            elif part.startswith("header:"):
                name = part.removeprefix("header:").lower().encode()
                found.append(required(delivery.headers, name))
            else:
                found.append(values[part]())
        return b"".join(found)


class _Basic:
    def __init__(self, spec: BasicVerify) -> None:
        self._username = spec.username.encode()

    def key(self, secret: str) -> bytes:
        return self._username + b":" + secret.encode()

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        value = header(delivery.headers, b"authorization") or b""
        kind, _, text = value.strip().partition(b" ")
        if kind.lower() != b"basic":
            # Some senders show their password only when they are asked for it in this way.
            raise CredentialsMissing(
                "Send the user name and password as 'Authorization: Basic …'.",
                headers={"WWW-Authenticate": 'Basic realm="sluiceway", charset="UTF-8"'},
            )
        try:
            given = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise CredentialsInvalid("The credentials are not base64.") from None
        _check_secret(keys, given)


class _Key:
    def __init__(self, spec: KeyVerify) -> None:
        self._header = spec.header.lower().encode() if spec.header else None
        self._query = spec.query
        self._prefix = spec.prefix.encode()

    def key(self, secret: str) -> bytes:
        return secret.encode()

    def check(self, delivery: Delivery, keys: Sequence[object]) -> None:
        if self._header is not None:
            given = header(delivery.headers, self._header)
            where = f"the header {self._header.decode()}"
        else:
            found = query_fields(delivery.query).get(self._query or "")
            given = None if found is None else found.encode()
            where = f"{self._query}= in the address"
        if not given or not given.startswith(self._prefix):
            raise CredentialsMissing(f"Send the key in {where}.")
        _check_secret(keys, given[len(self._prefix) :])


def make_scheme(spec: AnyVerify) -> Scheme:
    """The scheme of a pipeline's settings."""
    match spec:
        case GithubVerify():
            return _BodyHmac(b"x-hub-signature-256", "sha256", "hex", b"sha256=")
        case ShopifyVerify():
            return _BodyHmac(b"x-shopify-hmac-sha256", "sha256", "base64")
        case SlackVerify():
            return _Hmac(
                HmacVerify(
                    scheme="hmac",
                    header="x-slack-signature",
                    prefix="v0=",
                    payload="v0:{timestamp}:{body}",
                    timestamp_header="x-slack-request-timestamp",
                    tolerance_s=spec.tolerance_s,
                )
            )
        case StripeVerify():
            return _Stripe(spec)
        case StandardWebhooksVerify():
            return _StandardWebhooks(spec)
        case TwilioVerify():
            return _Twilio(spec)
        case HmacVerify():
            return _Hmac(spec)
        case BasicVerify():
            return _Basic(spec)
        case KeyVerify():
            return _Key(spec)


def _bytes(key: object) -> bytes:
    assert isinstance(key, bytes)
    return key


def _without_prefix(text: bytes, prefix: bytes) -> bytes:
    if not text.startswith(prefix):
        raise SignatureMalformed(f"The signature should begin with {prefix.decode()}.")
    return text[len(prefix) :]


def _check_count(given: Sequence[bytes]) -> None:
    if len(given) > MAX_SIGNATURES:
        raise SignatureMalformed(f"The delivery has more than {MAX_SIGNATURES} signatures.")


def _check_secret(keys: Sequence[object], given: bytes) -> None:
    # Hashed first: the comparison takes as long whatever the lengths are.
    expected = (hashlib.sha256(_bytes(k)).digest() for k in keys)
    if not one_fits(expected, [hashlib.sha256(given).digest()]):
        raise CredentialsInvalid("The credentials are not those of this pipeline.")


def _verifies(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _with_and_without_port(url: str) -> list[str]:
    """The address as it is, with its scheme's default port and without any."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    bare = re.sub(r":\d+$", "", host)
    user = parts.netloc[: len(parts.netloc) - len(host)]
    port = "443" if parts.scheme == "https" else "80"
    found = [url]
    for netloc in (user + bare, f"{user}{bare}:{port}"):
        address = urlunsplit(parts._replace(netloc=netloc))
        if address not in found:
            found.append(address)
    return found
