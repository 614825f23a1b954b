"""Whether a password would be found by guessing: length, common passwords, and an estimate of its guesses.

Offline: zxcvbn brings its lists with it. Not here: hashing and comparing (`passwords`).
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sluiceway.identity import passwords

LEAST_SCORE = 3
"""zxcvbn's "safely unguessable": more than 10^8 guesses."""
_ESTIMATED = 72
# What stands in every installation and is tried first.
_OURS = ("sluiceway", "dashboard", "workspace")


def password_problem(password: str, about: Iterable[str] = ()) -> str | None:
    """What is wrong with a password that somebody wants, as the rest of "The password …"; None: nothing.

    `about`: the person's address and name, which a guesser tries first.
    """
    low, high = passwords.MINIMUM_LENGTH, passwords.MAXIMUM_LENGTH
    if not low <= len(password) <= high:
        return f"should have {low} to {high} characters"
    if "\x00" in password:
        return "should not hold a NUL character"
    if password.lower() in _common():
        return "is one of the most used passwords; take one that nobody else has"
    found = _estimate(password, tuple(about))
    if found["score"] >= LEAST_SCORE:
        return None
    feedback = found["feedback"]
    hints = [feedback["warning"], *feedback["suggestions"]]
    said = " ".join(hint.rstrip(".") + "." for hint in hints if hint)
    return f"is too easy to guess. {said or 'Add another word or two; uncommon words are better.'}"


def _estimate(password: str, about: tuple[str, ...]) -> Any:
    # Imported late: its lists take a tenth of a second to read, and few processes set passwords.
    from zxcvbn import zxcvbn

    known = [*_OURS]
    for text in about:
        known += [text, *text.replace("@", " ").replace(".", " ").split()]
    # The estimate takes time that grows with the cube of the length; what follows only adds to it.
    return zxcvbn(password[:_ESTIMATED], user_inputs=known)


@cache
def _common() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(FREQUENCY_LISTS["passwords"])
