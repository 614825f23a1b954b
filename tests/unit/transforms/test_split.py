"""Bodies are cut into the bytes that were sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.transforms.contracts import BodyForm
from sluiceway.transforms.split import split


@pytest.mark.parametrize(
    ("form", "body", "events"),
    [
        (BodyForm.OBJECT, b'{"a": 1}\n', [b'{"a": 1}\n']),
        (BodyForm.ARRAY, b' [ {"a": 1} , 5,"x" ]', [b'{"a": 1}', b"5", b'"x"']),
        (BodyForm.ARRAY, b"[]", []),
        (BodyForm.ARRAY, b"[1,", [b"[1,"]),
        (BodyForm.ARRAY, b"[" * 200_000, [b"[" * 200_000]),
        (BodyForm.NDJSON, b'{"a":1}\r\n\n  \n{"a":2}', [b'{"a":1}', b'{"a":2}']),
        (BodyForm.NDJSON, b"", []),
        (BodyForm.NDJSON, b"\x00\n{", [b"\x00", b"{"]),
    ],
)
def test_split(form: BodyForm, body: bytes, events: list[bytes]) -> None:
    assert split(form, body) == events


@given(st.sampled_from(BodyForm), st.binary(max_size=60))
def test_split_never_fails(form: BodyForm, body: bytes) -> None:
    assert isinstance(split(form, body), list)
