import pytest
from pydantic import ValidationError

from sluiceway.catalog.contracts import SourceSpec


def test_sites_are_kept_in_lower_case_and_once() -> None:
    found = SourceSpec(
        allowed_origins=["https://Shop.Example.com", "https://shop.example.com", "http://[::1]:3000"]
    )
    assert found.allowed_origins == ["https://shop.example.com", "http://[::1]:3000"]


@pytest.mark.parametrize(
    "origin",
    [
        "*", "null", "", "shop.example.com", "https://", "https://*.example.com", "https://shop.example.com/",
        "https://shop.example.com/path", "https://a@shop.example.com", "ftp://shop.example.com",
        "https://shop.example.com\r\nSet-Cookie: a=b", "https://shop .example.com", "https://shop.example.com:",
    ],
)  # fmt: skip
def test_what_is_no_site_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="should be a site like"):
        SourceSpec(allowed_origins=[origin])
