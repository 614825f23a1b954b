"""Forms are taken apart once for each request."""

import pytest

from sluiceway.kit import forms


def test_a_reader_takes_the_same_bytes_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real, read = forms.form_pairs, []

    def count(body: bytes) -> forms.Pairs | None:
        read.append(body)
        return real(body)

    monkeypatch.setattr(forms, "form_pairs", count)
    reader = forms.FormReader()
    body = b"a=1&b=%C3%BC"
    assert reader(body) == reader(body) == [("a", "1"), ("b", "ü")]
    assert reader(b"a=%ff") is None and reader(b"") == []
    assert read == [body, b"a=%ff", b""]
