"""The language of row rules: `region in user.regions and not (status = 'secret' or amount > 1000)`.

    condition  = both {"or" both}
    both       = one {"and" one}
    one        = "not" one | "(" condition ")" | field test
    test       = ("=" | "!=" | "<" | "<=" | ">" | ">=") value | ["not"] "in" list | "is" ["not"] "null"
    value      = text | number | "true" | "false" | "user." attribute
    list       = "user." attribute | "(" value {"," value} ")"

Keywords in any case; text in single quotes ('' for one inside), as in SQL. `= user.x` with several values
means any of them. Pure: text in, a typed tree or `ValueError` with the place out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_NODES = 200
_DEEPEST = 30
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))|(?P<word>[A-Za-z_][A-Za-z0-9_.]*)"
    r"|(?P<op><=|>=|!=|<>|=|<|>|\(|\)|,|\[|\]))"
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_ATTRIBUTE = re.compile(r"user\.([a-z][a-z0-9_]{0,62})")
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,62}")

Constant = str | int | float | bool


@dataclass(frozen=True, slots=True)
class UserAttribute:
    """The values that whoever looks has under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """`op` is one of = != < <= > >=."""

    field: str
    op: str
    value: Constant | UserAttribute


@dataclass(frozen=True, slots=True)
class Among:
    """The field's value is one of `values`, or of the attribute's; `negated`: is none."""

    field: str
    values: tuple[Constant, ...] | UserAttribute
    negated: bool


@dataclass(frozen=True, slots=True)
class IsNull:
    field: str
    negated: bool


@dataclass(frozen=True, slots=True)
class Not:
    part: "Condition"


@dataclass(frozen=True, slots=True)
class Junction:
    """All of `parts` (`and`), or any of them (`or`)."""

    word: str
    parts: tuple["Condition", ...]


Condition = Compare | Among | IsNull | Not | Junction


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def parse(text: str) -> Condition:
    """Raises `ValueError` that says what was expected where."""
    if any((ord(c) < 32 and c not in "\t\r\n") or "\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("should have no control characters")
    parser = _Parser(text)
    found = parser.either(0)
    if parser.kind != "end":
        raise parser.wrong("`and`, `or` or the end")
    return found


def leaves(condition: Condition) -> Iterator[Compare | Among | IsNull]:
    """Every test in it."""
    if isinstance(condition, Not):
        yield from leaves(condition.part)
    elif isinstance(condition, Junction):
        for part in condition.parts:
            yield from leaves(part)
    else:
        yield condition


def fields(condition: Condition) -> frozenset[str]:
    return frozenset(leaf.field for leaf in leaves(condition))


def attributes(condition: Condition) -> frozenset[str]:
    """Names of the attributes that whoever looks must have."""
    found = (leaf.value if isinstance(leaf, Compare) else leaf.values
             for leaf in leaves(condition) if not isinstance(leaf, IsNull))  # fmt: skip
    return frozenset(value.name for value in found if isinstance(value, UserAttribute))


class _Parser:
    """Recursive descent over the tokens; `kind` and `text` are the one that is looked at."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._nodes = 0
        self.kind, self.text, self._begin = "", "", 0
        self._next()

    def wrong(self, expected: str) -> ValueError:
        found = "the end" if self.kind == "end" else repr(self.text[:40])
        return ValueError(f"should have {expected} at character {self._begin + 1}, not {found}")

    def _next(self) -> None:
        match = _TOKEN.match(self._source, self._at)
        if match is None:
            rest = self._source[self._at :]
            self._begin = self._at + len(rest) - len(rest.lstrip())
            self.kind, self.text = ("end", "") if not rest.strip() else ("odd", rest.strip()[:1])
            return
        self._at, self._begin = match.end(), match.start(match.lastgroup or 0)
        self.kind, self.text = match.lastgroup or "odd", match[match.lastgroup or 0]
        if self.kind == "word" and self.text.lower() in _KEYWORDS:
            self.kind = "keyword"
            self.text = self.text.lower()

    def _taken(self, text: str) -> bool:
        """Go on if this is the token."""
        if self.kind in ("keyword", "op") and self.text == text:
            self._next()
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._taken(text):
            raise self.wrong(f"`{text}`")

    def either(self, depth: int) -> Condition:
        return self._junction("or", depth)

    def _junction(self, word: str, depth: int) -> Condition:
        parts = [self._part(word, depth)]
        while self._taken(word):
            parts.append(self._part(word, depth))
        return parts[0] if len(parts) == 1 else Junction(word, tuple(parts))

    def _part(self, word: str, depth: int) -> Condition:
        return self._junction("and", depth) if word == "or" else self._one(depth)

    def _one(self, depth: int) -> Condition:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > _DEEPEST:
            raise ValueError("is too long or too deeply nested")
        if self._taken("not"):
            return Not(self._one(depth + 1))
        if self._taken("("):
            found = self.either(depth + 1)
            self._need(")")
            return found
        if self.kind != "word":
            raise self.wrong("a field")
        if not _FIELD.fullmatch(self.text):
            raise self.wrong("the name of a field")
        field = self.text
        self._next()
        return self._test(field)

    def _test(self, field: str) -> Condition:
        if self._taken("is"):
            negated = self._taken("not")
            self._need("null")
            return IsNull(field, negated)
        negated = self._taken("not")
        if self._taken("in"):
            return Among(field, self._list(), negated)
        if negated:
            raise self.wrong("`in`")
        if self.kind == "op" and self.text in ("=", "!=", "<>", "<", "<=", ">", ">="):
            op = "!=" if self.text == "<>" else self.text
            self._next()
            value = self._value()
            if isinstance(value, UserAttribute) and op not in ("=", "!="):
                raise ValueError(f"`{op}` does not go with user.{value.name}, which may have several values")
            return Compare(field, op, value)
        raise self.wrong(f"a test of {field!r}: =, !=, <, <=, >, >=, in, not in, is null")

    def _list(self) -> tuple[Constant, ...] | UserAttribute:
        if self.kind == "word":
            value = self._value()
            assert isinstance(value, UserAttribute)
            return value
        close = "]" if self._taken("[") else ")"
        if close == ")":
            self._need("(")
        values: list[Constant] = []
        while True:
            value = self._value()
            if isinstance(value, UserAttribute):
                raise ValueError(f"user.{value.name} stands alone after `in`, without brackets")
            values.append(value)
            if not self._taken(","):
                break
        self._need(close)
        return tuple(values)

    def _value(self) -> Constant | UserAttribute:
        kind, text = self.kind, self.text
        if kind == "text":
            found: Constant | UserAttribute = text[1:-1].replace("''", "'")
        elif kind == "number":
            found = float(text) if "." in text else int(text)
        elif kind == "keyword" and text in ("true", "false"):
            found = text == "true"
        elif kind == "word" and (match := _ATTRIBUTE.fullmatch(text)):
            found = UserAttribute(match[1])
        else:
            raise self.wrong("a text in single quotes, a number, true, false or user.<attribute>")
        self._next()
        return found
