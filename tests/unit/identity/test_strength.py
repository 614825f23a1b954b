"""Which passwords are refused, and what is said of them."""

import pytest

from sluiceway.identity.strength import password_problem


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "10 to 1000"),
        ("x" * 1001, "10 to 1000"),
        ("1234567890", "most used"),
        ("PassWord123456", "easy to guess"),
        ("hunter2hunter2", "easy to guess"),
        ("sluiceway2026", "easy to guess"),
        ("lovelace1815", "easy to guess"),
        ("ada@example.com", "easy to guess"),
        ("abcdefghijklmnop", "easy to guess"),
        ("nul\x00in the middle of it", "NUL"),
    ],
)
def test_passwords_that_would_be_guessed(password: str, said: str) -> None:
    problem = password_problem(password, ("ada@example.com", "Ada Lovelace"))
    assert problem is not None and said in problem
    assert password not in problem


@pytest.mark.parametrize(
    "password",
    [
        "violet otter climbs quietly",
        "correct horse battery",
        "kP9$vwQz!m2",
        "ä" * 3 + "zwölf Boxkämpfer jagen",
    ],
)
def test_passwords_that_would_not(password: str) -> None:
    assert password_problem(password, ("ada@example.com", "Ada Lovelace")) is None


def test_a_long_password_takes_no_longer_to_estimate() -> None:
    assert password_problem("violet otter climbs quietly " * 30, ()) is None
