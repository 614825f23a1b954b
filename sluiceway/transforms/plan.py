"""A pipeline's mapping, taken apart once for all its events.

Belongs here: what both ways of mapping (`single`, `bulk`) need to know. Not here: mapping.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sluiceway.catalog.contracts import FieldSpec, FieldType, PipelineSpec
from sluiceway.transforms.paths import Path, compile_path
from sluiceway.transforms.values import COERCIONS, Coercion, Mismatch

MAX_ID_BYTES = 200
FUTURE_LIMIT = timedelta(days=1)
FUTURE_LIMIT_US = int(FUTURE_LIMIT.total_seconds()) * 1_000_000


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field: where it is, how it becomes its type, and what stands in for a missing value."""

    name: str
    type: FieldType
    path: Path
    coerce: Coercion
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Plan:
    """`id_given`: the pipeline itself says where ids are, so an event without one is refused. Otherwise
    `id_paths` are those of the sender's scheme, and an event without one is given an id; with
    `id_of_request` they name the request, so that its events are told apart by their index."""

    id_paths: tuple[Path, ...]
    id_given: bool
    id_of_request: bool
    time_path: Path | None
    split_path: Path | None
    fields: tuple[FieldPlan, ...]
    max_event_bytes: int

    @property
    def reads_headers(self) -> bool:
        paths = [*self.id_paths, *(f.path for f in self.fields)]
        return any(p.header is not None for p in paths) or (
            self.time_path is not None and self.time_path.header is not None
        )


def make_plan(spec: PipelineSpec, max_event_bytes: int) -> Plan:
    id_given = spec.event.id is not None
    id_paths = tuple(compile_path(path) for path in spec.event.id_paths or spec.delivery_id_paths)
    return Plan(
        id_paths=id_paths,
        id_given=id_given,
        id_of_request=not id_given and any(path.header is not None for path in id_paths),
        time_path=compile_path(spec.event.time) if spec.event.time else None,
        split_path=compile_path(spec.source.split) if spec.source.split else None,
        fields=tuple(_field(field) for field in spec.fields),
        max_event_bytes=max_event_bytes,
    )


def _field(field: FieldSpec) -> FieldPlan:
    coerce = COERCIONS[field.type]
    default = field.default
    if default is not None:
        try:
            default = coerce(default)
        except Mismatch:
            default = None  # a default that is not of the field's type stands for nothing
    return FieldPlan(field.name, field.type, compile_path(field.source_path), coerce, field.required, default)
