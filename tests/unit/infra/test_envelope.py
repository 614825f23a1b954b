"""Sealed secrets: open in their own place and under their own key only; keys change without opening them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.infra.envelope import CannotOpen, Envelope
from sluiceway.infra.keys import SecretKey

ONE, TWO = b"1" * 32, b"2" * 32
PLACE = "pipeline-secret:1:2:3"


@given(st.binary(max_size=300))
def test_what_is_sealed_opens(value: bytes) -> None:
    envelope = Envelope({1: ONE}, 1)
    sealed = envelope.seal(value, PLACE)
    assert envelope.open(sealed, PLACE) == value
    assert envelope.key_version(sealed) == 1
    assert len(value) < 4 or value not in sealed
    assert envelope.seal(value, PLACE) != sealed


@given(st.data())
def test_any_changed_bit_is_noticed(data: st.DataObject) -> None:
    envelope = Envelope({1: ONE}, 1)
    sealed = bytearray(envelope.seal(b"a secret", PLACE))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    with pytest.raises(CannotOpen):
        envelope.open(bytes(sealed), PLACE)


def test_another_place_another_key_and_cut_bytes() -> None:
    envelope = Envelope({1: ONE}, 1)
    sealed = envelope.seal(b"a secret", PLACE)
    for other, bytes_, place in (
        (envelope, sealed, "pipeline-secret:1:2:4"),
        (Envelope({1: TWO}, 1), sealed, PLACE),
        (Envelope({2: ONE}, 2), sealed, PLACE),
        (envelope, sealed[:-1], PLACE),
        (envelope, sealed[:80], PLACE),
        (envelope, b"", PLACE),
    ):
        with pytest.raises(CannotOpen) as caught:
            other.open(bytes_, place)
        assert "a secret" not in str(caught.value)


def test_a_new_key_takes_over_without_opening_the_value() -> None:
    sealed = Envelope({1: ONE}, 1).seal(b"a secret", PLACE)
    both = Envelope({1: ONE, 2: TWO}, 2)
    assert both.open(sealed, PLACE) == b"a secret"
    again = both.rewrap(sealed, PLACE)
    assert both.key_version(again) == 2
    assert again[-24:] == sealed[-24:]  # the value itself is as it was
    assert Envelope({2: TWO}, 2).open(again, PLACE) == b"a secret"
    with pytest.raises(CannotOpen):
        both.rewrap(sealed, "another place")


def test_the_installations_own() -> None:
    key = SecretKey(b"a key for tests only, long enough to pass")
    sealed = Envelope.of(key).seal(b"a secret", PLACE)
    assert Envelope.of(key).open(sealed, PLACE) == b"a secret"
    with pytest.raises(CannotOpen):
        Envelope.of(SecretKey(b"another key")).open(sealed, PLACE)
    assert "***" in repr(Envelope.of(key))
