"""Reads a YAML document into a pydantic model, with errors that name the field and the line.

For everything people write as a file: pipelines, suites, dashboards. Pure: text in, model or error out.
"""

from collections.abc import Hashable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from sluiceway.kit.errors import FieldError, InvalidInput

MAX_SOURCE_BYTES = 512 * 1024
_MAX_NODES = 50_000

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]


def read_model(source: str, model: type[Model], error: type[InvalidInput]) -> Model:
    """The document in `source` as `model`.

    Raises `error` with one `FieldError` (dotted field, message, line) for each thing that is wrong.
    """
    data, lines = read_document(source, error)
    try:
        return model.model_validate(data)
    except ValidationError as found:
        errors = [_field_error(item, lines) for item in found.errors(include_url=False)]
        raise error(_sentence(errors), errors=errors) from None


def read_document(source: str, error: type[InvalidInput]) -> tuple[dict[str, Any], dict[Path, int]]:
    """The document as plain data, and the line (from 1) of every field.

    Raises `error` for what is not YAML, not a mapping, too large, or says one key twice.
    """
    if len(source.encode()) > MAX_SOURCE_BYTES:
        raise error(f"The file is larger than {MAX_SOURCE_BYTES // 1024} kB.")
    if "\x00" in source:
        raise error("The file contains a NUL character.")
    try:
        node = yaml.compose(source, Loader=yaml.SafeLoader)
        lines: dict[Path, int] = {}
        if node is not None:
            _walk(node, (), lines, error, [0])
        data = yaml.safe_load(source)
    except (yaml.YAMLError, RecursionError, ValueError) as found:
        raise unreadable(found, error) from None
    if not isinstance(data, dict):
        raise error("The file should hold one mapping (fields with values).")
    return data, lines


def unreadable(found: Exception, error: type[InvalidInput]) -> InvalidInput:
    """The error to raise for what a reader of YAML complains about: in words, with the line (from 1)."""
    mark = getattr(found, "problem_mark", None)
    line = None if mark is None else mark.line + 1
    where = "" if line is None else f" at line {line}"
    problem = str(getattr(found, "problem", None) or "it is not YAML")
    if problem == "but found another document":
        problem = "another document begins here; put each into a file of its own"
    return error(f"The file cannot be read{where}: {problem}.", errors=[FieldError("", problem, line)])


def _walk(
    node: Node, path: Path, lines: dict[Path, int], error: type[InvalidInput], count: list[int]
) -> None:
    count[0] += 1
    if count[0] > _MAX_NODES:
        raise error(f"The file has more than {_MAX_NODES} values (aliases count each time).")
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        seen: set[Hashable] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                field = ".".join(map(str, (*path, name)))
                raise error(
                    f"{field} is given twice (line {line}).",
                    errors=[FieldError(field, "is given twice", line)],
                )
            seen.add(name)
            lines[(*path, name)] = line
            _walk(value, (*path, name), lines, error, count)
    elif isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, error, count)


def _field_error(item: Any, lines: dict[Path, int]) -> FieldError:
    location: Path = tuple(item["loc"])
    # pydantic adds the name of the union's branch or the validator to the path: keep what is in the file.
    known: Path = ()
    for part in location:
        if (*known, part) in lines:
            known = (*known, part)
    missing = item["type"] == "missing" and location
    # Where nothing of the path is in the file, a default is wrong: it is named as it would be written.
    named = (*known, location[-1]) if missing else known or location
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = "is not a known field"
    elif missing:
        message = "is required"
    return FieldError(".".join(map(str, named)), message, lines.get(known))


def _sentence(errors: list[FieldError]) -> str:
    shown = [
        f"{e.field or 'the document'} {e.message}" + (f" (line {e.line})" if e.line else "")
        for e in errors[:5]
    ]
    more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
    return "; ".join(shown) + more + "."
