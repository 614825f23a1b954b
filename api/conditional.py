"""Changes that hold for one version only: the header If-Match (RFC 9110, section 13.1.1)."""

from typing import Annotated

from fastapi import Header

from sluiceway.kit.errors import BadRequest

IfMatch = Annotated[str | None, Header(description="The version that is to be changed.", examples=['"3"'])]


def expected_version(if_match: str | None) -> int | None:
    """The version in If-Match; `*` and absence ask for none. Raises `BadRequest` for what is no version."""
    text = (if_match or "").strip().removeprefix("W/").strip('"')
    if text in ("", "*"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequest("If-Match should be the version, in quotes.")
    return int(text)
