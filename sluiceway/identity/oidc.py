"""Asking an OpenID Connect provider who somebody is: discovery, the authorization code flow with PKCE, the
ID token's signature and claims; signing out there, and hearing that somebody has.

Not here: which providers there are (`providers`), who of theirs may come in (`federation`).
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from sluiceway.identity.errors import InvalidLogoutToken, ProviderFailed, ProviderRefused
from sluiceway.identity.providers import Provider
from sluiceway.infra.outbound import ForbiddenAddress, PrivateHosts, outbound_client

KEPT_S = 3600.0
_LEAST_RELOAD_S = 30.0
_LEEWAY_S = 60
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Asymmetric ones alone: a client's secret signs nothing, and `none` never holds."""
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider says of itself (OpenID Connect Discovery)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    token_methods: tuple[str, ...]
    end_session_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A way to the provider: where the browser goes, and what the answer is held against."""

    url: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What the provider says of a person. `email_verified`: None if it does not say. `session`: what the
    provider calls the session that the person has there."""

    subject: str
    email: str | None
    email_verified: bool | None
    name: str | None
    groups: tuple[str, ...]
    methods: tuple[str, ...]
    auth_time: int | None
    session: str | None = None
    id_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """Whom a provider has signed out: one session of theirs, or, without its name, all of the subject's."""

    subject: str | None
    session: str | None
    at: datetime


class ProviderClient:
    """Asks providers. What they say of themselves, and their keys, are kept for an hour by address."""

    def __init__(self, private: PrivateHosts) -> None:
        self._private = private
        self._lock = Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    def discover(self, issuer: str) -> Metadata:
        """Raises `ProviderFailed` or `ForbiddenAddress`."""
        found = self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            said = _plain(str(found.get("issuer")))
            raise ProviderFailed(f"The provider calls itself {said!r}, not {issuer!r}.")
        try:
            addresses = {
                name: str(found[name]) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            }
        except KeyError as error:
            raise ProviderFailed(f"The provider's configuration has no {error.args[0]}.") from None
        userinfo, leaving = found.get("userinfo_endpoint"), found.get("end_session_endpoint")
        for address in (*addresses.values(), *filter(None, (userinfo, leaving))):
            self._private.check_url(str(address))
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Metadata(
            issuer=issuer,
            userinfo_endpoint=None if userinfo is None else str(userinfo),
            token_methods=tuple(str(method) for method in methods),
            end_session_endpoint=None if leaving is None else str(leaving),
            **addresses,
        )

    def begin(self, provider: Provider, *, redirect_uri: str, state: str, fresh: bool) -> Request:
        """Where to send the browser. `fresh`: the person has to sign in there anew.

        Raises `ProviderFailed` or `ForbiddenAddress`.
        """
        metadata = self.discover(provider.spec.issuer)
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        more = {"prompt": "login", "max_age": "0"} if fresh else {}
        url = prepare_grant_uri(
            metadata.authorization_endpoint,
            provider.spec.client_id,
            "code",
            redirect_uri,
            " ".join(provider.spec.scopes),
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
            **more,
        )
        return Request(str(url), nonce, verifier)

    def finish(
        self,
        provider: Provider,
        secret: str | None,
        *,
        code: str,
        nonce: str,
        verifier: str,
        redirect_uri: str,
        now: datetime,
    ) -> Claims:
        """Who it is. Raises `ProviderFailed`, `ProviderRefused` or `ForbiddenAddress`."""
        metadata = self.discover(provider.spec.issuer)
        tokens = self._exchange(provider, secret, metadata, code, verifier, redirect_uri)
        id_token = str(tokens.get("id_token") or "")
        claims = self._verified(provider, metadata, id_token, nonce, now)
        wanted = {"email", provider.spec.groups_claim}
        if metadata.userinfo_endpoint and not wanted <= claims.keys() and tokens.get("access_token"):
            more = self._userinfo(metadata.userinfo_endpoint, str(tokens["access_token"]))
            if more.get("sub") != claims["sub"]:
                raise ProviderRefused("The provider's answers are about different people.")
            claims = {**more, **claims}
        return replace(_claims(claims, provider.spec.groups_claim), id_token=id_token)

    def end_session_url(self, provider: Provider, *, id_token: str | None, return_to: str) -> str | None:
        """Where a browser signs out at the provider (RP-Initiated Logout 1.0); None: it has no such place.

        Raises `ProviderFailed` or `ForbiddenAddress`.
        """
        address = self.discover(provider.spec.issuer).end_session_endpoint
        if address is None:
            return None
        asked = [("client_id", provider.spec.client_id), ("post_logout_redirect_uri", return_to)]
        if id_token is not None:
            asked.append(("id_token_hint", id_token))
        return str(add_params_to_uri(address, asked))

    def logged_out(self, provider: Provider, token: str, *, now: datetime) -> LoggedOut:
        """Whom a logout token says the provider has signed out (Back-Channel Logout 1.0, section 2.6).

        Raises `InvalidLogoutToken`, `ProviderFailed` or `ForbiddenAddress`.
        """
        metadata = self.discover(provider.spec.issuer)
        try:
            claims = dict(self._decoded(metadata, token).claims)
            jwt.JWTClaimsRegistry(
                now=int(now.timestamp()),
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": metadata.issuer},
                aud={"essential": True, "value": provider.spec.client_id},
                iat={"essential": True},
                exp={"essential": True},
            ).validate(claims)
        except JoseError as error:
            raise InvalidLogoutToken(f"The logout token does not hold: {_plain(error.error)}.") from None
        except (ValueError, TypeError, KeyError):
            raise InvalidLogoutToken("The logout token cannot be read.") from None
        return _logged_out(claims)

    def _exchange(
        self,
        provider: Provider,
        secret: str | None,
        metadata: Metadata,
        code: str,
        verifier: str,
        redirect_uri: str,
    ) -> Mapping[str, Any]:
        method = "none"
        if secret is not None:
            posts = "client_secret_basic" not in metadata.token_methods
            method = "client_secret_post" if posts else "client_secret_basic"
        asked = prepare_token_request(
            "authorization_code", redirect_uri=redirect_uri, code=code, code_verifier=verifier
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        url, headers, body = ClientAuth(provider.spec.client_id, secret, method).prepare(
            "POST", metadata.token_endpoint, headers, asked
        )
        answer = self._ask("POST", url, headers, body)
        if answer.status_code in (400, 401):
            raise ProviderRefused(f"The provider refused: {_plain(_json(answer, url).get('error', ''))}.")
        if answer.status_code != 200:
            raise ProviderFailed(f"The provider's token endpoint answered with {answer.status_code}.")
        return _json(answer, url)

    def _verified(
        self, provider: Provider, metadata: Metadata, token: str, nonce: str, now: datetime
    ) -> dict[str, Any]:
        """The ID token's claims (OpenID Connect Core, section 3.1.3.7)."""
        seconds = int(now.timestamp())
        try:
            claims = dict(self._decoded(metadata, token).claims)
            jwt.JWTClaimsRegistry(
                now=seconds,
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": metadata.issuer},
                sub={"essential": True},
                aud={"essential": True, "value": provider.spec.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except JoseError as error:
            raise ProviderRefused(f"The provider's ID token does not hold: {_plain(error.error)}.") from None
        except (ValueError, TypeError, KeyError):
            raise ProviderRefused("The provider's ID token cannot be read.") from None
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        party = claims.get("azp")
        if (len(audiences) > 1 and party is None) or party not in (None, provider.spec.client_id):
            raise ProviderRefused("The provider's ID token was made for somebody else.")
        return claims

    def _decoded(self, metadata: Metadata, token: str) -> Any:
        keys = KeySet.import_key_set(self._document(metadata.jwks_uri))  # type: ignore[arg-type]  # checked there
        try:
            return jwt.decode(token, keys, algorithms=_ALGORITHMS)
        except JoseError:
            # The provider may have changed its keys since they were read.
            fresh = self._document(metadata.jwks_uri, reload=True)
            return jwt.decode(token, KeySet.import_key_set(fresh), algorithms=_ALGORITHMS)  # type: ignore[arg-type]

    def _userinfo(self, address: str, access_token: str) -> dict[str, Any]:
        return self._get(address, {"Authorization": f"Bearer {access_token}"})

    def _document(self, address: str, *, reload: bool = False) -> dict[str, Any]:
        with self._lock:
            kept = self._kept.get(address)
        age = time.monotonic() - kept[0] if kept is not None else KEPT_S
        if kept is not None and age < (_LEAST_RELOAD_S if reload else KEPT_S):
            return kept[1]
        found = self._get(address, {})
        with self._lock:
            if len(self._kept) >= 200:
                self._kept.clear()
            self._kept[address] = (time.monotonic(), found)
        return found

    def _get(self, address: str, headers: Mapping[str, str]) -> dict[str, Any]:
        answer = self._ask("GET", address, {"Accept": "application/json", **headers})
        if answer.status_code != 200:
            raise ProviderFailed(f"{urlsplit(address).netloc} answered with status {answer.status_code}.")
        return _json(answer, address)

    def _ask(
        self, method: str, address: str, headers: Mapping[str, str], body: str | None = None
    ) -> httpx.Response:
        try:
            with outbound_client(self._private) as client:
                return client.request(method, address, headers=dict(headers), content=body)
        except httpx.HTTPError as error:
            where = urlsplit(address).netloc
            raise ProviderFailed(f"{where} does not answer: {type(error).__name__}.") from None


def _json(answer: httpx.Response, address: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderFailed(f"{urlsplit(address).netloc} did not answer with a JSON object.")
    return found


def _claims(found: Mapping[str, Any], groups_claim: str) -> Claims:
    said = _at(found, groups_claim)
    groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    verified = found.get("email_verified")
    methods = found.get("amr")
    at = found.get("auth_time")
    return Claims(
        subject=str(found["sub"])[:300],
        email=str(found["email"]) if found.get("email") else None,
        email_verified={"true": True, "false": False}.get(str(verified).lower()),
        name=str(found["name"])[:120] if found.get("name") else None,
        groups=tuple(str(group) for group in groups),
        methods=tuple(str(method) for method in methods) if isinstance(methods, list) else (),
        auth_time=int(at) if isinstance(at, int | float) else None,
        session=str(found["sid"])[:300] if found.get("sid") else None,
    )


def _logged_out(claims: Mapping[str, Any]) -> LoggedOut:
    events, subject, session = claims.get("events"), claims.get("sub"), claims.get("sid")
    if not isinstance(events, Mapping) or not isinstance(events.get(_LOGOUT_EVENT), Mapping):
        raise InvalidLogoutToken("The token is not about signing out.")
    if "nonce" in claims:  # an ID token, which anybody may have seen
        raise InvalidLogoutToken("A logout token has no nonce.")
    told = [value for value in (subject, session) if value is not None]
    if not told or not all(isinstance(value, str) and 0 < len(value) <= 300 for value in told):
        raise InvalidLogoutToken("The logout token names neither a person nor a session.")
    # It tells whole seconds: what began within that one was there.
    return LoggedOut(subject, session, datetime.fromtimestamp(int(claims["iat"]) + 1, UTC))


def _at(found: Mapping[str, Any], path: str) -> Any:
    """The claim of this name, or under this path (`realm_access.roles`)."""
    if path in found:
        return found[path]
    value: Any = found
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _plain(text: str) -> str:
    return "".join(c for c in str(text) if c.isprintable())[:100]


__all__ = ["Claims", "ForbiddenAddress", "LoggedOut", "Metadata", "ProviderClient", "Request"]
