"""The language of row rules: what is read, what is refused and in which words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluiceway.rules.conditions import (
    Among,
    Compare,
    IsNull,
    Junction,
    Not,
    UserAttribute,
    attributes,
    fields,
    parse,
)

READ = [
    ("region in user.regions", Among("region", UserAttribute("regions"), False)),
    ("region NOT IN ('a', 'b')", Among("region", ("a", "b"), True)),
    ("region in ['a']", Among("region", ("a",), False)),
    ("owner = user.email", Compare("owner", "=", UserAttribute("email"))),
    ("shop = 'O''Neill'", Compare("shop", "=", "O'Neill")),
    ("amount >= -1.5", Compare("amount", ">=", -1.5)),
    ("amount <> 3", Compare("amount", "!=", 3)),
    ("vip = true", Compare("vip", "=", True)),
    ("note is not null", IsNull("note", True)),
    ("not a = 1", Not(Compare("a", "=", 1))),
    (
        "a = 1 or b = 2 and not (c is null or d = 'x')",
        Junction(
            "or",
            (
                Compare("a", "=", 1),
                Junction(
                    "and",
                    (
                        Compare("b", "=", 2),
                        Not(Junction("or", (IsNull("c", False), Compare("d", "=", "x")))),
                    ),
                ),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("text", "tree"), READ, ids=[text for text, _ in READ])
def test_what_is_read(text: str, tree: object) -> None:
    assert parse(text) == tree


REFUSED = [
    ("", "a field at character 1, not the end"),
    ("region", "a test of 'region'"),
    ("region in", "`(` at character 10"),
    ("region = US", "a text in single quotes"),
    ("region = 'US", "a text in single quotes"),
    ("region in (user.regions)", "stands alone after `in`"),
    ("amount < user.limit", "several values"),
    ("a = 1 b = 2", "`and`, `or` or the end at character 7, not 'b'"),
    ("a = 1; DROP TABLE x", "`and`, `or` or the end at character 6, not ';'"),
    ("(a = 1", "`)` at character 7"),
    ("A = 1", "the name of a field"),
    ("app.users = 1", "the name of a field"),
    ("a not = 1", "`in`"),
    ("a = 1\x00", "control characters"),
    ("not " * 40 + "a = 1", "deeply nested"),
    (" or ".join(["a = 1"] * 201), "too long"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_what_is_refused_and_why(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)


def test_what_a_condition_names() -> None:
    tree = parse("a in user.x and (not b = user.y or c is null) and d in ('user.z')")
    assert fields(tree) == {"a", "b", "c", "d"} and attributes(tree) == {"x", "y"}


@given(st.text(alphabet="abin ot=<>()[],.'\"user1-\n", max_size=80))
def test_nothing_that_people_write_is_a_surprise(text: str) -> None:
    try:
        tree = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert fields(tree)
