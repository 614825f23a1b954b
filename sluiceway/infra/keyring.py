"""The versions of the key that seals stored secrets: random keys in the database, wrapped by the first one.

A process asks for them before it seals, at most every few seconds, and when it meets a version that it does
not know: so all processes follow a rotation while they run. Belongs here: wrapping, remembering. Not here:
sealing values (`infra.envelope`), changing the version and sealing everything again (`infra.rotation`).
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluiceway.infra.envelope import CannotOpen, first_key
from sluiceway.infra.keys import SecretKey

FRESH_S = 5.0
"""Nothing is sealed by what was known longer ago than this."""
_AGAIN_S = 1.0  # a version that is not there makes nobody ask more often
_KEY = 32
_NONCE = 12
_PURPOSE = "keyring"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One version as kept."""

    version: int
    wrapped: bytes = field(repr=False)
    current: bool


Load = Callable[[], Sequence[StoredKey]]


class Keyring:
    """`sluiceway.infra.envelope.Keys` over what `load` finds. Safe for several threads."""

    def __init__(
        self, key: SecretKey, load: Load, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._key = key
        self._load = load
        self._monotonic = monotonic
        self._lock = Lock()
        self._keys: dict[int, bytes] = {}
        self._current = 0
        self._asked_at = float("-inf")
        self._missed: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"Keyring(versions {sorted(self._keys)}, ***)"

    def current(self) -> int:
        """The version to seal under. Raises `CannotOpen` if this installation's key does not open it."""
        with self._lock:
            self._look(FRESH_S)
            if self._current not in self._keys:
                raise CannotOpen("The stored keys belong to another SLUICEWAY_SECRET_KEY.")
            return self._current

    def get(self, version: int) -> bytes | None:
        with self._lock:
            if version not in self._keys:
                missed_at = self._missed.get(version, float("-inf"))
                if self._monotonic() - missed_at > _AGAIN_S:
                    self._missed[version] = self._monotonic()
                    self._look(0.0)
            return self._keys.get(version)

    def forget(self) -> None:
        """Ask again before the next use."""
        with self._lock:
            self._asked_at = float("-inf")

    def _look(self, most_s: float) -> None:
        now = self._monotonic()
        if now - self._asked_at <= most_s and most_s > 0:
            return
        stored = self._load()
        if stored:
            found = {one.version: unwrap(self._key, one) for one in stored}
            self._keys = {version: key for version, key in found.items() if key is not None}
            self._current = next(one.version for one in stored if one.current)
        else:  # a database that was never told of its first key
            self._keys, self._current = {1: first_key(self._key)}, 1
        self._asked_at = now


def wrap(key: SecretKey, material: bytes) -> bytes:
    """A version's 32 bytes as they are kept."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key.derive(_PURPOSE, _KEY)).encrypt(nonce, material, _PURPOSE.encode())


def unwrap(key: SecretKey, stored: StoredKey) -> bytes | None:
    """A version's 32 bytes; None: wrapped by another installation's key."""
    wrapped = stored.wrapped
    try:
        return AESGCM(key.derive(_PURPOSE, _KEY)).decrypt(
            wrapped[:_NONCE], wrapped[_NONCE:], _PURPOSE.encode()
        )
    except InvalidTag:
        return None


def new_material() -> bytes:
    return os.urandom(_KEY)


def ensure_first_key(connection: sa.Connection, key: SecretKey) -> None:
    """Keep version 1 where no version is kept yet. Role OWNER."""
    connection.execute(
        sa.text(
            "INSERT INTO app.encryption_keys (wrapped, state) SELECT :wrapped, 'current'"
            " WHERE NOT EXISTS (SELECT FROM app.encryption_keys)"
        ),
        {"wrapped": wrap(key, first_key(key))},
    )
