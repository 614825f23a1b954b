"""Password hashing with argon2id (RFC 9106). Nothing else hashes or compares a password."""

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MINIMUM_LENGTH = 10
MAXIMUM_LENGTH = 1000

# OWASP's second choice (19 MiB, 2 passes, 1 lane): about 25 ms a sign-in and little memory under a burst.
_hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    return _hasher.hash(password)


def verify(stored: str | None, password: str) -> bool:
    """Whether the password fits. Without a stored hash the same work is done and the answer is no,

    so that the time taken does not tell whether an account exists.
    """
    try:
        _hasher.verify(stored if stored is not None else _nobody(), password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None


def needs_rehash(stored: str) -> bool:
    return _hasher.check_needs_rehash(stored)


@cache
def _nobody() -> str:
    return _hasher.hash("the password of nobody")
