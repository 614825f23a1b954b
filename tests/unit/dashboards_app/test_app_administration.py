"""What the pages of administration say: limits and how near they are, entries of the audit log, days."""

import ast
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dashboards_app.app import ADDRESSES, MAIN
from dashboards_app.pages import audit, usage

SCRIPT = "<script>"


def measure(name: str, used: int, state: str = "ok", **limits: int | None) -> dict[str, Any]:
    held = {"soft": None, "hard": None, "ceiling": None, **limits}
    return {"measure": name, "used": used, "as_of": None, "limits": held, "state": state}


def test_a_measure_says_its_nearest_limit_and_the_soft_one() -> None:
    shown = usage.card(measure("events", 50, hard=400, ceiling=100, soft=80), running=True)
    assert "Events this month" in shown and "of 100" in shown and "soft limit 80" in shown
    assert "50% used" in shown


def test_sizes_are_shown_as_they_were_set() -> None:
    stored = measure("stored_bytes", 2_500_000_000, "soft", soft=10**9, hard=500 * 10**9)
    shown = usage.card(stored, running=True)
    assert "2.5 GB" in shown and "of 500.0 GB" in shown and "past the soft limit · soft limit 1.0 GB" in shown
    assert "not measured yet" in shown
    hour_ago = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    assert "measured 2 h ago" in usage.card({**stored, "as_of": hour_ago}, running=True)


def test_open_invitations_have_seats() -> None:
    assert "and 2 invited" in usage.card(measure("seats", 6, hard=8), running=True, invited=2)
    assert "invited" not in usage.card(measure("events", 6), running=True, invited=2)


def test_a_month_that_is_over_is_not_judged() -> None:
    shown = usage.card(measure("events", 500, "hard", hard=400), running=False)
    assert "limit reached" not in shown and "<h2>Events</h2>" in shown
    assert "limit reached" in usage.card(measure("seats", 9, "hard", hard=9), running=False)


@pytest.mark.parametrize(
    ("days", "since", "until"),
    [
        ((date(2026, 3, 1), date(2026, 3, 2)), "2026-02-28T23:00:00+00:00", "2026-03-02T23:00:00+00:00"),
        ((date(2026, 7, 1),), "2026-06-30T22:00:00+00:00", "2026-07-01T22:00:00+00:00"),
        ((), None, None),
    ],
)
def test_days_are_whole_and_the_visitors(
    days: tuple[date, ...], since: str | None, until: str | None
) -> None:
    assert audit.between(days, ZoneInfo("Europe/Berlin")) == (since, until)


def test_an_entry_says_who_when_from_where_and_what_it_was() -> None:
    entry = {
        "seq": 1204, "at": "2026-11-21T14:03:07.123456+00:00", "action": "quota.changed",
        "actor": {
            "kind": "user", "id": "7", "name": f"ada@example.com{SCRIPT}", "address": "192.0.2.7",
            "user_agent": f"Browser {SCRIPT}",
        },
        "request_id": "r-1", "target": "quota", "target_id": SCRIPT, "before": {"soft": 1},
        "after": {"soft": SCRIPT}, "detail": None, "erased": False, "hash": "9f2c" * 16,
    }  # fmt: skip
    shown = audit.line(entry)
    for said in (
        "ada@example.com", "192.0.2.7", "2026-11-21 14:03:07.123456 UTC", "request r-1", "Browser &lt;script",
        "entry 1,204, 9f2c", "<del>1</del>", "<ins>&lt;script", "quota.changed",
    ):  # fmt: skip
        assert said in shown
    assert SCRIPT not in shown


def test_an_entry_without_changes_opens_as_well() -> None:
    entry = {
        "seq": 1, "at": "2026-11-21T14:03:07+00:00", "action": "key.listed",
        "actor": {"kind": "user", "id": "7", "name": "", "address": "", "user_agent": ""},
        "request_id": "", "target": None, "target_id": None, "before": None, "after": None, "detail": None,
        "erased": True, "hash": "00" * 32,
    }  # fmt: skip
    shown = audit.line(entry)
    assert "somebody whose account is gone" in shown and "<details>" in shown and "entry 1," in shown


def test_every_page_has_an_address_that_is_let_through() -> None:
    pages = next(
        node.value
        for node in ast.parse(MAIN.read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "PAGES"
    )
    assert isinstance(pages, ast.Dict)
    named = {key.value for key in pages.keys if isinstance(key, ast.Constant)}
    assert named | {""} == ADDRESSES
