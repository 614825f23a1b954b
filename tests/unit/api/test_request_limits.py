"""Counting requests by person, key and address, with a clock of the test's own."""

from typing import Any
from uuid import UUID

import pytest
from starlette.requests import HTTPConnection

from api.rate_limits import KNOWN_S, Buckets, RateLimits
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import MemberRole
from sluiceway.infra.settings import load_settings
from sluiceway.kit.errors import TooManyRequests

ADA = UUID("0198c0de-0000-7000-8000-000000000001")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits(clock: Clock, user: int = 3, key: int = 3, address: int = 2) -> RateLimits:
    settings = load_settings(
        {
            "SLUICEWAY_USER_REQUESTS_PER_MINUTE": str(user),
            "SLUICEWAY_KEY_REQUESTS_PER_MINUTE": str(key),
            "SLUICEWAY_ADDRESS_REQUESTS_PER_MINUTE": str(address),
        }
    )
    return RateLimits(settings, monotonic=clock)


def asked(cookie: str = "", address: str = "203.0.113.9", path: str = "/v1/pipelines") -> dict[str, Any]:
    headers = [(b"cookie", f"sluiceway_session={cookie}".encode())] if cookie else []
    return {"type": "http", "path": path, "headers": headers, "client": (address, 1), "state": {}}


def ada() -> Caller:
    return Caller.from_member(
        user_id=ADA,
        workspace_id=1,
        role=MemberRole.VIEWER,
        email="ada@example.com",
        name="Ada",
        expires_at=None,
    )


def fields(scope: dict[str, Any]) -> tuple[str, str]:
    found = scope["state"]["rate_limit"]
    return found["RateLimit-Policy"], found["RateLimit"]


def test_a_bucket_lets_through_what_it_holds_and_fills_up_again(clock: Clock) -> None:
    buckets = Buckets(60, clock)
    assert [buckets.take("a").left for _ in range(60)] == list(range(59, -1, -1))
    refused = buckets.take("a")
    assert (refused.granted, refused.left, refused.wait_s) == (False, 0, pytest.approx(1.0))
    assert buckets.take("b").granted, "another's is full"
    clock.now += 2.5
    assert [buckets.take("a").granted for _ in range(3)] == [True, True, False]
    clock.now += 1e6
    assert buckets.take("a").left == 59, "never more than it holds"


def test_no_more_buckets_are_kept_than_allowed(clock: Clock) -> None:
    buckets = Buckets(1, clock, size=100)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets) == 100
    assert not buckets.take("999").granted and buckets.take("0").granted


def test_a_stranger_pays_with_the_address(clock: Clock) -> None:
    found = limits(clock)
    first = asked()
    found.enter(first)
    assert fields(first) == ('"address";q=2;w=60', '"address";r=1;t=0')
    found.enter(asked())
    with pytest.raises(TooManyRequests, match="requests a minute came from this address") as refused:
        found.enter(asked())
    assert refused.value.retry_after_s == pytest.approx(30)
    assert refused.value.headers["RateLimit"] == '"address";r=0;t=30'
    found.enter(asked(address="203.0.113.10"))


def test_a_household_of_ipv6_addresses_pays_together(clock: Clock) -> None:
    found = limits(clock)
    found.enter(asked(address="2001:db8::1"))
    found.enter(asked(address="2001:db8::2"))
    with pytest.raises(TooManyRequests):
        found.enter(asked(address="2001:db8::3"))


def test_a_person_pays_with_their_own_and_gets_the_address_back(clock: Clock) -> None:
    found = limits(clock, address=1)
    for left in (2, 1, 0):
        scope = asked("good")
        found.enter(scope)
        found.recognise(HTTPConnection(scope), ada())
        assert fields(scope) == ('"user";q=3;w=60', f'"user";r={left};t=0')
    scope = asked("good")
    found.enter(scope)
    with pytest.raises(TooManyRequests, match="from this user"):
        found.recognise(HTTPConnection(scope), ada())
    found.enter(asked())  # the address has its one left: none of those was a stranger's


def test_strangers_at_the_same_address_do_not_keep_out_who_is_known(clock: Clock) -> None:
    found = limits(clock, user=100, address=1)
    scope = asked("good")
    found.enter(scope)
    found.recognise(HTTPConnection(scope), ada())
    found.enter(asked())
    with pytest.raises(TooManyRequests):
        found.enter(asked("guessed"))
    found.enter(asked("good"))
    clock.now += KNOWN_S + 1
    found.enter(asked())
    with pytest.raises(TooManyRequests):
        found.enter(asked("good"))


def test_a_session_that_is_not_good_costs_the_address(clock: Clock) -> None:
    found = limits(clock)
    found.enter(asked("bad"))
    found.enter(asked("bad"))
    with pytest.raises(TooManyRequests):
        found.enter(asked("bad"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/assets/page.css", "/static/js/a.js"])
def test_what_machines_and_pages_always_ask_for_costs_nothing(clock: Clock, path: str) -> None:
    found = limits(clock, address=1)
    for _ in range(5):
        scope = asked(path=path)
        found.enter(scope)
        assert "rate_limit" not in scope["state"]


def test_figures_with_a_key_are_counted_since_the_key_is_looked_up(clock: Clock) -> None:
    found = limits(clock, address=2)

    def with_key() -> dict[str, Any]:
        return {**asked(path="/metrics"), "headers": [(b"authorization", b"Bearer slw_guessed")]}

    for _ in range(2):
        found.enter(with_key())
    with pytest.raises(TooManyRequests):
        found.enter(with_key())
    found.enter(asked(path="/metrics"))


def test_a_limit_of_0_is_none(clock: Clock) -> None:
    found = limits(clock, user=0, address=0)
    for _ in range(100):
        scope = asked("good")
        found.enter(scope)
        found.recognise(HTTPConnection(scope), ada())
    assert "rate_limit" not in scope["state"]


class Ledger:
    """The count that processes share, asked and answered at once; `away`: it is not there."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.held: dict[str, tuple[float, float]] = {}
        self.asked = 0
        self.away = False

    def tell(
        self, workspace_id: int, subject: str, *, rate_per_s: float, most: float, used: float, told: Any
    ) -> None:
        self.asked += 1
        tokens, at = self.held.get(subject, (most, self.clock.now))
        tokens = min(most, tokens + rate_per_s * (self.clock.now - at))
        if self.away:
            told(0, None)
            return
        counted = min(tokens, used)
        self.held[subject] = (tokens - counted, self.clock.now)
        told(counted, tokens - counted)


def together(clock: Clock, ledger: Ledger, user: int) -> list[RateLimits]:
    settings = load_settings({"SLUICEWAY_USER_REQUESTS_PER_MINUTE": str(user)})
    return [RateLimits(settings, ledger, monotonic=clock) for _ in range(2)]  # type: ignore[arg-type]


def ask(process: RateLimits) -> bool:
    scope = asked("good")
    try:
        process.recognise(HTTPConnection(scope), ada())
    except TooManyRequests:
        return False
    return True


def test_processes_hold_a_caller_to_one_limit_together(clock: Clock) -> None:
    processes = together(clock, Ledger(clock), user=80)
    assert 80 <= sum(ask(processes[n % 2]) for n in range(1000)) <= 80 + 2 * 10
    passed, seconds = 0, 600
    for _ in range(seconds):
        clock.now += 1
        passed += sum(ask(processes[n % 2]) for n in range(40))
    assert 0.9 * 80 / 60 * seconds <= passed <= 80 / 60 * seconds + 2 * 10, "what was too much is made up for"


def test_a_caller_who_asks_little_is_told_to_nobody(clock: Clock) -> None:
    ledger = Ledger(clock)
    one, other = together(clock, ledger, user=80)
    assert [ask(one) for _ in range(9)] == [True] * 9
    assert ledger.asked == 0
    assert ask(one) and ledger.asked == 1
    assert ask(other) and ledger.asked == 1


def test_without_the_shared_count_each_process_counts_alone(clock: Clock) -> None:
    ledger = Ledger(clock)
    ledger.away = True
    processes = together(clock, ledger, user=80)
    assert sum(ask(processes[0]) for _ in range(200)) == 80
    assert sum(ask(processes[1]) for _ in range(200)) == 80
    ledger.away = False
    clock.now += 60
    assert ask(processes[0]), "what nobody was told of is not forgotten"
    assert ledger.held["user:0198c0de-0000-7000-8000-000000000001"][0] == 0
