"""What the commands about people share: reading options, attributes on one line."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sluiceway.kit.errors import FieldError, InvalidInput

if TYPE_CHECKING:
    import sqlalchemy as sa

Email = Annotated[str, typer.Argument(help="E-mail address.")]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option("--attribute", help="For row rules: name=value; may be repeated."),
]
TeamOption = Annotated[list[str] | None, typer.Option("--team", help="A team's slug; may be repeated.")]


def attributes_of(texts: list[str] | None) -> dict[str, list[str]] | None:
    """`name=value` texts, by name; None without any. Raises `InvalidInput`."""
    if texts is None:
        return None
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            problem = FieldError("attribute", f"{text!r} should be name=value")
            raise InvalidInput(f"{text!r} is no attribute: write name=value.", errors=[problem])
        found.setdefault(name, [])
        if value:
            found[name].append(value)
    return found


def team_ids(connection: "sa.Connection", workspace_id: int, slugs: list[str] | None) -> list[UUID] | None:
    """The teams' ids; None without any. Raises `NotFound`."""
    from sluiceway.identity.teams import get_team

    return None if slugs is None else [get_team(connection, workspace_id, slug).id for slug in slugs]


def told(attributes: dict[str, list[str]]) -> str:
    """Attributes on one line."""
    return " ".join(f"{name}={','.join(values)}" for name, values in attributes.items())
