"""Reading a version that was applied once, whatever newer rules say of it.

A rule that is added to the models is for files that are applied from then on: a pipeline that runs must not
end with an upgrade. So a stored document that is refused is read again by its shape alone, without rules and
limits. Not here: the rules (`contracts` and beside it), applying (`service`), which always keeps them.
"""

import logging
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from sluiceway.catalog.contracts import PipelineSpec
from sluiceway.catalog.errors import StoredVersionUnreadable

M = TypeVar("M", bound=BaseModel)

log = logging.getLogger(__name__)
_NOT_OF_THE_SHAPE = (ValidationError, LookupError, TypeError)
_told: set[str] = set()


def read_spec(document: Mapping[str, Any], name: str) -> PipelineSpec:
    """A stored version's spec; `name` says which, for the log. Raises `StoredVersionUnreadable`."""
    try:
        return PipelineSpec.model_validate(document)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
    try:
        found = _read(PipelineSpec, document)
    except _NOT_OF_THE_SHAPE as error:
        unreadable = StoredVersionUnreadable(f"{name} cannot be read: {'; '.join(problems)}.")
        _tell(name, logging.ERROR, unreadable.detail)
        raise unreadable from error
    words = f"{name} was applied before a rule that it breaks, and goes on; applying it anew asks for:"
    _tell(name, logging.WARNING, f"{words} {'; '.join(problems)}")
    return found


def _tell(name: str, level: int, words: str) -> None:
    if name not in _told:  # it is read again and again
        _told.add(name)
        log.log(level, "%s", words)


def _read(model: type[M], document: Mapping[str, Any]) -> M:
    """The document as the model has it, unknown keys left out. Raises if a needed part is not there."""
    values = {}
    for name, field in model.model_fields.items():
        if name in document:
            values[name] = _value(field.annotation, field.metadata, document[name])
        elif field.is_required():
            raise LookupError(name)
    return model.model_construct(**values)


def _value(kind: Any, metadata: Sequence[Any], value: Any) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        return _value(inner, [*metadata, *more], value)
    if origin is list and isinstance(value, list):
        (item,) = get_args(kind)
        return [_value(item, (), each) for each in value]
    if isinstance(value, Mapping):
        fitting = [model for model in _models(kind) if _fits(model, value)]
        if fitting:
            return _read(fitting[0], value)
    # What makes a value of the type from what was written (durations) is shape; what narrows it down is rule.
    shapes = [each for each in metadata if isinstance(each, BeforeValidator)]
    try:
        return TypeAdapter(Annotated[kind, *shapes] if shapes else kind).validate_python(value)
    except ValidationError:
        if origin not in (Union, types.UnionType):
            raise
        return _any_of(get_args(kind), metadata, value)


def _any_of(kinds: Sequence[Any], metadata: Sequence[Any], value: Any) -> Any:
    """The value as the first of some kinds that it can be."""
    for kind in kinds:
        with suppress(*_NOT_OF_THE_SHAPE):
            return _value(kind, metadata, value)
    raise TypeError(f"a value is none of {len(kinds)} kinds")


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a value of this kind may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    elif get_origin(kind) is Annotated:
        yield from _models(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for member in get_args(kind):
            yield from _models(member)


def _fits(model: type[BaseModel], value: Mapping[str, Any]) -> bool:
    """Whether the words that tell one model from another are this one's."""
    words = {n: f.annotation for n, f in model.model_fields.items() if get_origin(f.annotation) is Literal}
    return all(value.get(name) in get_args(kind) for name, kind in words.items() if name in value)
