"""What several rules together mean for somebody, and what a rule's file may say."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from sluiceway.identity.contracts import DataAccess
from sluiceway.rules.book import effect_of
from sluiceway.rules.contracts import Mask, Rule, RuleSpec
from sluiceway.rules.errors import InvalidRule
from sluiceway.rules.service import parse

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def rule(name: str = "one", **spec: Any) -> Rule:
    found = RuleSpec.model_validate({"name": name, "pipeline": "sales", **spec})
    return Rule(len(name), 1, name, 1, 7, None, found, NOW, NOW, None)


def viewer(**attributes: list[str]) -> DataAccess:
    return DataAccess.of(1, ["viewer"], attributes)


@pytest.mark.parametrize(
    ("roles", "exempt", "held", "concerned"),
    [
        ([], [], ["viewer"], True),
        ([], [], [], True),
        ([], ["owner"], ["viewer"], True),
        ([], ["owner"], ["owner", "viewer"], False),
        (["viewer"], [], ["editor"], False),
        (["viewer"], [], ["editor", "viewer"], True),
        (["viewer"], ["editor"], ["editor", "viewer"], False),
        (["key:read"], [], ["key:read"], True),
        (["link"], [], ["link"], True),
    ],
)
def test_whom_a_rule_concerns(roles: list[str], exempt: list[str], held: list[str], concerned: bool) -> None:
    found = rule(rows="region in user.regions", roles=roles, **{"except": exempt})
    assert found.concerns(tuple(held)) is concerned


def test_the_stronger_mask_holds() -> None:
    partial = rule("aa", masks=[{"field": "email", "as": "partial", "first": 3, "last": 1}])
    narrower = rule("bbb", masks=[{"field": "email", "as": "partial", "first": 1, "last": 2}])
    hashed = rule("cccc", masks=[{"field": "email", "as": "hash"}])
    hidden = rule("ddddd", masks=[{"field": "email", "as": "hide"}])
    assert effect_of([partial, narrower], viewer()).masks == {"email": Mask("partial", 1, 1)}
    assert effect_of([hashed, partial], viewer()).masks == {"email": Mask("hash")}
    assert effect_of([hashed, hidden, partial], viewer()).masks == {"email": Mask("hide")}


def test_answers_are_shared_by_those_whom_the_rules_tell_apart_in_nothing() -> None:
    rules = [rule(rows="region in user.regions", **{"except": ["owner"]})]
    eu, us = viewer(regions=["EU"]), viewer(regions=["US"])
    same = replace(viewer(regions=["EU"], team=["ops"]), user_id=None)
    assert effect_of(rules, eu).share == effect_of(rules, same).share != effect_of(rules, us).share
    owner = DataAccess.of(1, ["owner"], {"regions": ["EU"]})
    assert not effect_of(rules, owner).touches and effect_of(rules, owner).share == effect_of([], eu).share
    changed = [replace(rules[0], version=2)]
    assert effect_of(changed, eu).share != effect_of(rules, eu).share


def test_who_views_as_another_is_bound_by_both() -> None:
    rules = [
        rule("aa", rows="region in user.regions", roles=["editor"]),
        rule("bbb", masks=[{"field": "email", "as": "hide"}], roles=["viewer"]),
    ]
    editor = DataAccess.of(1, ["editor"], {"regions": ["EU"]})
    found = effect_of(rules, replace(viewer(), behind=editor))
    assert found.ruled and found.masks == {"email": Mask("hide")}
    assert found.share != effect_of(rules, viewer()).share


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name: a-rule\npipeline: p1\n", ""),
        ("name: a-rule\npipeline: p1\nmodel: marts.m1\nrows: a = 1\n", ""),
        ("name: a-rule\npipeline: p1\nrows: a =\n", "rows"),
        ("name: a-rule\npipeline: p1\nrows: a = 1\nroles: [Viewer]\n", "roles"),
        ("name: a-rule\npipeline: p1\nmasks: [{field: a, as: blur}]\n", "masks.0.as"),
        ("name: a-rule\npipeline: p1\nmasks: [{field: a, as: hash, last: 4}]\n", "masks.0"),
        ("name: a-rule\npipeline: p1\nmasks: [{field: a, as: hash}, {field: a, as: hide}]\n", ""),
        ("name: a-rule\npipeline: p1\nrows: a = 1\nmode: strict\n", "mode"),
    ],
)
def test_a_file_that_is_wrong_says_where(text: str, field: str) -> None:
    with pytest.raises(InvalidRule) as found:
        parse("kind: Rule\n" + text)
    assert [error.field for error in found.value.errors] == [field]


def test_a_rule_reads_back_as_it_was_written() -> None:
    spec = parse(
        "kind: Rule\nname: regions\nmodel: marts.sales_daily\nroles: [viewer, link]\nexcept: [owner]\n"
        "rows: region in user.regions\nmasks:\n  - {field: email, as: partial, last: 4}\n"
    )
    assert RuleSpec.model_validate(spec.document()) == spec
    assert spec.model_name == "sales_daily"
