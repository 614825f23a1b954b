"""What the rules mean for somebody who looks at something: asked before every read, so kept in memory.

Which rows are seen is not decided here: the database does. This says which columns are masked, whether gold
may answer, and with whom an answer may be shared.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock

import orjson
import sqlalchemy as sa

from sluiceway.identity.contracts import DataAccess
from sluiceway.rules import conditions, repository
from sluiceway.rules.contracts import Effect, Guard, Mask, Rule

_WORKSPACES_KEPT = 1_000


class RuleBook:
    """The rules of every workspace that was asked about, as of the version they had. One a process."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, tuple[Rule, ...]]] = {}
        self._lock = Lock()

    def effect(
        self,
        connection: sa.Connection,
        access: DataAccess,
        *,
        pipeline_id: int | None = None,
        model: str | None = None,
        version: int | None = None,
    ) -> Effect:
        """What holds now for `access` on a pipeline, or on the relation `model` of schema marts.

        `version`: of the workspace's rules, if this transaction has just looked it up.
        """
        version, rules = self._rules(connection, access.workspace_id, version)
        on_it = [r for r in rules if (r.pipeline_id, r.model) == (pipeline_id, model)]
        return replace(effect_of(on_it, access), version=version)

    def touched(self, connection: sa.Connection, access: DataAccess) -> frozenset[str]:
        """The pipelines, by name, of which something is kept from `access`."""
        rules = self._rules(connection, access.workspace_id)[1]
        return frozenset(
            rule.spec.pipeline
            for rule in rules
            if rule.spec.pipeline is not None and any(rule.concerns(eye.roles) for eye in access.eyes)
        )

    def _rules(
        self, connection: sa.Connection, workspace_id: int, version: int | None = None
    ) -> tuple[int, tuple[Rule, ...]]:
        """All rules of the workspace and their version. One look tells whether they changed."""
        if version is None:
            version = repository.find_version(connection, workspace_id)
        known = self._known.get(workspace_id)
        if known is None or known[0] != version:
            # Rules that were changed between the two looks are kept under the older version: asked again.
            known = version, tuple(repository.list_rules(connection, workspace_id) if version else ())
            with self._lock:
                while len(self._known) >= _WORKSPACES_KEPT:
                    self._known.pop(next(iter(self._known)))
                self._known[workspace_id] = known
        return known


def effect_of(rules: Iterable[Rule], access: DataAccess) -> Effect:
    """What `rules`, all on one thing, mean for `access`. Pure."""
    masks: dict[str, Mask] = {}
    judged_by: set[str] = set()
    guards: list[Guard] = []
    told: list[object] = []
    for rule in rules:
        asked = _asked(rule.spec.rows) if rule.spec.rows is not None else None
        for eye, held in enumerate(access.eyes):
            if not rule.concerns(held.roles):
                continue
            has = tuple((n, v) for n, v in held.attributes if asked is not None and n in asked.attributes)
            told.append([rule.id, rule.version, eye, has])
            if asked is not None:
                guards.append(Guard(asked.condition, has))
                judged_by |= asked.fields
            for mask in rule.spec.masks:
                found = Mask(mask.kind, mask.first, mask.last)
                masks[mask.field] = found.stronger(masks.get(mask.field))
    if not told:
        return Effect()
    share = hashlib.blake2b(orjson.dumps(told), digest_size=16).hexdigest()
    return Effect(
        share=share,
        ruled=bool(guards),
        judged_by=frozenset(judged_by),
        masks=masks,
        guards=tuple(guards),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A condition, and the fields and attributes that it names."""

    condition: conditions.Condition
    fields: frozenset[str]
    attributes: frozenset[str]


@lru_cache(maxsize=4096)
def _asked(rows: str) -> _Asked:
    condition = conditions.parse(rows)
    return _Asked(condition, conditions.fields(condition), conditions.attributes(condition))
