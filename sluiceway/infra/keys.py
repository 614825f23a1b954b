"""The installation's secret key, and what is derived from it.

The key comes from the environment or from a file made on first start with mode 0600. Purposes are kept
apart by HKDF-SHA256 (RFC 5869): knowing one derived secret tells nothing of another.
"""

import base64
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sluiceway.infra.settings import Settings

KEY_FILE = "secret.key"
LEAST_CHARACTERS = 32


class SecretKey:
    def __init__(self, material: bytes) -> None:
        self._material = material

    def __repr__(self) -> str:
        return "SecretKey(***)"

    def derive(self, purpose: str, size_bytes: int = 32) -> bytes:
        """`size_bytes` of key material for one named purpose."""
        return HKDF(algorithm=SHA256(), length=size_bytes, salt=b"sluiceway", info=purpose.encode()).derive(
            self._material
        )

    def password(self, role: str) -> str:
        """The password of a database role."""
        return base64.urlsafe_b64encode(self.derive(f"database-role:{role}", 24)).decode()


def load_secret_key(settings: Settings) -> SecretKey:
    """The key from the environment, else from the key file, which is made if it is not there."""
    if settings.secret_key is not None:
        return SecretKey(settings.secret_key.encode())
    path = settings.home / KEY_FILE
    return SecretKey(_read_or_make(path))


def next_key_file(settings: Settings) -> tuple[Path, SecretKey]:
    """The key that is to take the place of the key file's, in a file beside it: made now, or left by a change
    that broke off."""
    path = settings.home / f"{KEY_FILE}.next"
    return path, SecretKey(_read_or_make(path))


def _read_or_make(path: Path) -> bytes:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_urlsafe(48).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)  # the first of several processes wins; the others read its key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes().strip()
