"""Which regular expressions a gate may run: not those whose time can grow exponentially with a text.

A gate runs between the spool and silver, so one such expression and one such text would stop a loader.
Refused is repetition without an end inside another one, as in `(a+)+`, unless each round begins with a
character that tells it apart, as in `(-[a-z]+)*`. Not here: what is matched against what.
"""

import warnings
from collections.abc import Iterator
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from re import _compiler, _constants, _parser  # type: ignore[attr-defined]

_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_MANY = 64  # as good as without an end


def problem(pattern: str) -> str | None:
    """What is wrong with a regular expression, as the end of "regex should …"; None: nothing."""
    try:
        parsed = _parser.parse(pattern)
    except (ValueError, OverflowError, RecursionError, _constants.error) as error:
        return f"be a regular expression: {error}"
    if _nested(parsed, inside=False):
        return "not repeat what itself repeats without an end, as (a+)+ does: it could take for ever"
    return None


def _nested(node: Any, *, inside: bool) -> bool:
    for operator, argument in node:
        repeats = operator in _REPEATS and argument[1] > _MANY
        if repeats and inside:
            return True
        if repeats and _told_apart(argument[2]):
            continue
        if any(_nested(part, inside=inside or repeats) for part in _parts(argument)):
            return True
    return False


def _told_apart(body: Any) -> bool:
    """Whether each round begins with a literal that nothing after it in the round can match."""
    while len(body) == 1 and body[0][0] is _constants.SUBPATTERN:
        body = body[0][1][-1]
    if len(body) < 2 or body[0][0] is not _constants.LITERAL:
        return False
    first, rest = chr(body[0][1]), body[1:]
    if not all(_simple(item) for item in rest):
        return False
    return not any(_compiler.compile(_body(item)).match(first) for item in rest)


def _simple(item: Any) -> bool:
    """One set of characters, once or repeated."""
    single = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.IN)
    return item[0] in single or (item[0] in _REPEATS and len(item[1][2]) == 1 and item[1][2][0][0] in single)


def _body(item: Any) -> Any:
    if item[0] in _REPEATS:
        return item[1][2]
    return _parser.SubPattern(_parser.State(), [item])


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for part in argument:
            yield from _parts(part)
