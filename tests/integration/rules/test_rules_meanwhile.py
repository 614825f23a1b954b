"""Rules that change while an answer is made; and how often a query goes to the server and back."""

from pathlib import Path
from typing import Any

import pytest

from sluiceway.infra import database as infra
from sluiceway.infra.database import Role
from sluiceway.queries import repository
from tests.support.round_trips import round_trips
from tests.support.ruled import EU, OWNER, Ruled

COUNT = {"measures": [{"agg": "count"}], "dimensions": ["region"], "time": {"last": "30d"}}
EMAILS = {"rows": ["email"], "time": {"last": "30d"}, "limit": 1000}


@pytest.mark.parametrize("when", ["before it is read", "after it was read"])
def test_an_answer_is_made_anew_under_the_rules_that_hold_by_then(
    ruled: Ruled, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, reads = repository.fetch, []

    def changing(*asked: Any) -> Any:
        """The first read meets a rule that is saved at that moment."""
        reads.append(asked)
        if when.startswith("before") and len(reads) == 1:
            ruled.rule(rows="region in user.regions")
        rows = real(*asked)
        if when.startswith("after") and len(reads) == 1:
            ruled.rule(masks=[{"field": "email", "as": "partial", "first": 1}])
        return rows

    monkeypatch.setattr(repository, "fetch", changing)
    shown = [row[0] for row in ruled.ask(EU, **EMAILS).rows]
    assert len(reads) == 2
    if when.startswith("before"):
        assert len(shown) == 4
    else:
        assert set(shown) == {"p…"}
    answers = ruled.ask(OWNER, **EMAILS)
    assert not answers.cached and len(answers.rows) == 12
    assert all(row[0].startswith("person") for row in answers.rows)
    assert ruled.ask(EU, **EMAILS).cached


def test_rules_that_never_come_to_rest_are_waited_for(ruled: Ruled, monkeypatch: pytest.MonkeyPatch) -> None:
    from sluiceway.queries.errors import DatabaseAway

    real, number = repository.fetch, iter(range(100))

    def changing(*asked: Any) -> Any:
        rows = real(*asked)
        ruled.rule(masks=[{"field": "email", "as": "partial", "first": next(number)}])
        return rows

    monkeypatch.setattr(repository, "fetch", changing)
    with pytest.raises(DatabaseAway):
        ruled.ask(EU, **EMAILS)


def test_a_query_from_rows_is_five_round_trips_and_a_kept_answer_three(
    ruled: Ruled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin with who looks and the limits; the pipeline and the rules' version; rows; quality; commit."""
    monkeypatch.setattr(infra, "RESTED_S", 1e9)
    ruled.ask(OWNER, rows=["amount"], time={"last": "30d"})  # the pipeline's versions are read once
    trips = [
        round_trips(ruled.database, Role.READER, tmp_path / str(n), lambda: ruled.ask(OWNER, **EMAILS))
        for n in range(2)
    ]
    assert trips == [5, 3]
    ruled.rule(rows="region in user.regions")
    ruled.ask(EU, rows=["amount"], time={"last": "30d"})  # the rules are read once
    told = round_trips(ruled.database, Role.READER, tmp_path / "ruled", lambda: ruled.ask(EU, **EMAILS))
    assert told == 6  # and of which pipeline the policies are to judge the series
