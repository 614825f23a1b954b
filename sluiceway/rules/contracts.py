"""What a rule is, as written in YAML or JSON, and what all rules together mean for somebody who looks.

Belongs here: shapes. Not here: the language of conditions (`conditions`), SQL (`policies`, `masking`).
"""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sluiceway.catalog.base import Strict
from sluiceway.catalog.contracts import COLUMN_PATTERN, SLUG_PATTERN
from sluiceway.rules import conditions

ROLE_PATTERN = r"^[a-z][a-z0-9_:-]{0,62}$"
MODEL_PATTERN = r"^(marts\.)?[a-z][a-z0-9_]{0,62}$"
MaskKind = Literal["hide", "hash", "partial"]
STRENGTH: dict[str, int] = {"partial": 0, "hash": 1, "hide": 2}


class MaskSpec(Strict):
    """A column that is not shown as it is.

    `hide`: it cannot be asked for. `hash`: the same value gives the same 16 characters. `partial`: the first
    and last characters are kept, the rest is `…`; a value too short to hide anything in is hidden whole.
    """

    field: str = Field(pattern=COLUMN_PATTERN)
    # `as` is a word of Python.
    kind: MaskKind = Field(alias="as")
    first: int = Field(default=0, ge=0, le=100, description="Characters kept at the beginning (partial).")
    last: int = Field(default=0, ge=0, le=100, description="Characters kept at the end (partial).")

    @model_validator(mode="after")
    def _kept_of_partial_alone(self) -> "MaskSpec":
        if self.kind != "partial" and (self.first or self.last):
            raise ValueError("first and last go with as: partial alone")
        return self


class RuleSpec(Strict):
    """Which rows of a pipeline or mart those concerned may see (`rows`), and which columns are masked.

    It concerns holders of any of `roles` (none named: everyone, keys and links too), but not holders of any
    of `except`. Several rules on one thing hold together: each further one can only hide more.
    """

    kind: Literal["Rule"] = "Rule"
    name: str = Field(pattern=SLUG_PATTERN)
    description: str = Field(default="", max_length=500)
    pipeline: str | None = Field(default=None, pattern=SLUG_PATTERN)
    model: str | None = Field(default=None, pattern=MODEL_PATTERN, examples=["marts.flights_on_time"])
    roles: list[str] = Field(default_factory=list, max_length=50)
    exempt: list[str] = Field(default_factory=list, max_length=50, alias="except")
    rows: str | None = Field(
        default=None, min_length=1, max_length=4_000, examples=["region in user.regions"]
    )
    masks: list[MaskSpec] = Field(default_factory=list, max_length=100)

    @field_validator("roles", "exempt")
    @classmethod
    def _slugs(cls, value: list[str]) -> list[str]:
        for one in value:
            if not conditions.matches(ROLE_PATTERN, one):
                raise ValueError(f"{one[:70]!r} should be the name of a role")
        return sorted(set(value))

    @field_validator("rows")
    @classmethod
    def _readable(cls, value: str | None) -> str | None:
        if value is not None:
            conditions.parse(value)
        return value

    @model_validator(mode="after")
    def _about_one_thing(self) -> "RuleSpec":
        if (self.pipeline is None) == (self.model is None):
            raise ValueError("give either `pipeline` or `model`")
        if self.rows is None and not self.masks:
            raise ValueError("give `rows`, `masks`, or both")
        fields = [mask.field for mask in self.masks]
        if twice := sorted({name for name in fields if fields.count(name) > 1}):
            raise ValueError(f"field {twice[0]!r} is masked twice")
        return self

    @property
    def model_name(self) -> str | None:
        """The relation's name within schema `marts`."""
        return None if self.model is None else self.model.removeprefix("marts.")

    def document(self) -> dict[str, Any]:
        """As JSON types, without what was left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {
            "kind": "Rule", "name": self.name,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as it holds now."""

    id: int
    workspace_id: int
    name: str
    version: int
    pipeline_id: int | None
    model: str | None
    spec: RuleSpec
    created_at: datetime
    updated_at: datetime
    updated_by: uuid.UUID | None

    def concerns(self, roles: tuple[str, ...]) -> bool:
        """Whether it concerns a holder of these roles (as `app.rule_spares` decides in the database)."""
        held = set(roles)
        named = not self.spec.roles or not held.isdisjoint(self.spec.roles)
        return named and held.isdisjoint(self.spec.exempt)


@dataclass(frozen=True, slots=True)
class RuleVersion:
    """One version a rule had; `deleted`: it ended with this one."""

    name: str
    version: int
    deleted: bool
    spec: dict[str, Any]
    source: str
    created_by: uuid.UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Saved:
    """What saving did. `before`: what held until now; None: there was no such rule."""

    outcome: Literal["created", "updated", "unchanged"]
    rule: Rule
    before: RuleSpec | None


@dataclass(frozen=True, slots=True)
class Mask:
    """How a column is shown. `first`, `last`: characters kept of a `partial` one."""

    kind: MaskKind
    first: int = 0
    last: int = 0

    def stronger(self, other: "Mask | None") -> "Mask":
        """What is left when both hold."""
        if other is None or STRENGTH[self.kind] > STRENGTH[other.kind]:
            return self
        if STRENGTH[self.kind] < STRENGTH[other.kind] or self.kind != "partial":
            return other
        return Mask("partial", min(self.first, other.first), min(self.last, other.last))


@dataclass(frozen=True, slots=True)
class Guard:
    """A condition that holds for somebody, and what they have of what it asks for."""

    condition: conditions.Condition
    attributes: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """What the rules of one pipeline or mart mean for somebody.

    `masks`: by column. `ruled`: certain rows alone are seen; the database holds to that by itself.
    `judged_by`: columns that the rows are judged by. `version` counts changes of the workspace's rules.
    `guards`: the conditions, for the plans of queries.
    """

    version: int = 0
    share: str = ""
    ruled: bool = False
    judged_by: frozenset[str] = frozenset()
    masks: dict[str, Mask] = field(default_factory=dict)
    guards: tuple[Guard, ...] = ()

    @property
    def touches(self) -> bool:
        """Whether anything of it is kept from them."""
        return self.ruled or bool(self.masks)

    @property
    def key(self) -> tuple[int, str]:
        """Whoever has the same may be given the same answers, as long as what they are made of is the same.

        The version is in it although `share` tells rules apart: an answer that was begun under older rules
        and read under newer ones must not pass for one of either.
        """
        return self.version, self.share


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a rule file, for editors."""
    schema = RuleSpec.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Sluiceway rule",
    }
