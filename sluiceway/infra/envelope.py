"""Secrets at rest: sealed with AES-256-GCM under a key of their own, which the installation's key seals.

    version u8 (1) | key version u16 | nonce 12 | sealed data key 48 | nonce 12 | ciphertext and tag

Each value has a random data key, so a new installation key means sealing 48 bytes again, not the values
(`rewrap`). The key version says under which installation key a value was sealed. `context` is bound to both
seals: what is sealed for one row opens for no other.
"""

import os
import struct
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluiceway.infra.keys import SecretKey
from sluiceway.kit.errors import SluicewayError

_VERSION = 1
_HEAD = struct.Struct(">BH")
_NONCE = 12
_KEY = 32
_WRAPPED = _NONCE + _KEY + 16
_LEAST = _HEAD.size + _WRAPPED + _NONCE + 16


class CannotOpen(SluicewayError):
    """The value was sealed under another installation key or for another place, or is damaged."""

    code = "secret_unreadable"
    title = "A stored secret cannot be opened with this installation's key"


class Keys(Protocol):
    """The installation's keys by version; `sluiceway.infra.keyring` keeps them in the database."""

    def current(self) -> int:
        """The version that new values are sealed under."""
        ...

    def get(self, version: int) -> bytes | None:
        """32 bytes, or None for a version that is not known."""
        ...


class FixedKeys:
    """Keys that never change."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        self._keys = dict(keys)
        self._current = current

    def current(self) -> int:
        return self._current

    def get(self, version: int) -> bytes | None:
        return self._keys.get(version)


class Envelope:
    """Seals and opens. `keys`: 32 bytes by version; new values are sealed under `current`."""

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        self._keys: Keys = FixedKeys(keys, current)

    def __repr__(self) -> str:
        return "Envelope(***)"

    @classmethod
    def of(cls, key: SecretKey) -> "Envelope":
        """The envelope of an installation whose key was never changed."""
        return cls({1: first_key(key)}, 1)

    @classmethod
    def over(cls, keys: Keys) -> "Envelope":
        """The envelope of keys that may change while it is used."""
        found = cls({}, 0)
        found._keys = keys
        return found

    def seal(self, value: bytes, context: str) -> bytes:
        """`value`, readable with these keys and for `context` alone. Raises `CannotOpen` without a key."""
        data_key = os.urandom(_KEY)
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(data_key).encrypt(nonce, value, context.encode())
        return self._wrap(data_key, context) + nonce + sealed

    def open(self, sealed: bytes, context: str) -> bytes:
        """Raises `CannotOpen`."""
        data_key = self._unwrap(sealed, context)
        at = _HEAD.size + _WRAPPED
        try:
            return AESGCM(data_key).decrypt(sealed[at : at + _NONCE], sealed[at + _NONCE :], context.encode())
        except InvalidTag:
            raise _cannot_open() from None

    def rewrap(self, sealed: bytes, context: str) -> bytes:
        """The same value under the current key, without opening it. Raises `CannotOpen`."""
        return self._wrap(self._unwrap(sealed, context), context) + sealed[_HEAD.size + _WRAPPED :]

    def key_version(self, sealed: bytes) -> int:
        """Under which installation key a value is sealed. Raises `CannotOpen`."""
        if len(sealed) < _LEAST or sealed[0] != _VERSION:
            raise _cannot_open()
        return int(_HEAD.unpack_from(sealed)[1])

    def _wrap(self, data_key: bytes, context: str) -> bytes:
        version = self._keys.current()
        key = self._keys.get(version)
        if key is None:
            raise _cannot_open()
        head = _HEAD.pack(_VERSION, version)
        nonce = os.urandom(_NONCE)
        return head + nonce + AESGCM(key).encrypt(nonce, data_key, head + context.encode())

    def _unwrap(self, sealed: bytes, context: str) -> bytes:
        key = self._keys.get(self.key_version(sealed))
        if key is None:
            raise _cannot_open()
        head, wrapped = sealed[: _HEAD.size], sealed[_HEAD.size : _HEAD.size + _WRAPPED]
        try:
            return AESGCM(key).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], head + context.encode())
        except InvalidTag:
            raise _cannot_open() from None


def first_key(key: SecretKey) -> bytes:
    """Version 1, which is derived; every later one is random."""
    return key.derive("envelope:1", _KEY)


def _cannot_open() -> CannotOpen:
    return CannotOpen("A stored secret cannot be opened: it was sealed with another SLUICEWAY_SECRET_KEY.")
