"""Signed texts: what was signed comes back, and nothing else does."""

from string import ascii_letters, digits

import pytest

from sluiceway.kit.signed import NotSigned, sign, verify

KEY = b"k" * 32
ALPHABET = f"{ascii_letters}{digits}-_"


def test_what_was_signed_comes_back() -> None:
    assert verify(KEY, "a_", sign(KEY, "a_", {"n": 1, "s": "é"})) == {"n": 1, "s": "é"}


@pytest.mark.parametrize(
    "text",
    ["", "a_", "a_x", "a_.", "a_!.!", "b_e30.AAAA", "a_e30.AAAA", "a_" + "e" * 5000, "a_e30.é"],
)
def test_what_was_not_is_refused(text: str) -> None:
    with pytest.raises(NotSigned):
        verify(KEY, "a_", text)


def test_another_key_another_prefix_and_any_change_are_refused() -> None:
    text = sign(KEY, "a_", {"n": 1})
    for key, prefix, changed in (
        (b"j" * 32, "a_", text),
        (KEY, "b_", "b_" + text.removeprefix("a_")),
        (KEY, "a_", text.replace(".", "A.")),
        *((KEY, "a_", text[:-1] + last) for last in ALPHABET if last != text[-1]),
        (KEY, "a_", sign(KEY, "a_", {"n": 2}).split(".")[0] + "." + text.split(".")[1]),
    ):
        with pytest.raises(NotSigned):
            verify(key, prefix, changed)
