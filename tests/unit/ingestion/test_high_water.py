"""High-water marks by what a loader told last: who is refused, for how long, and when it is over."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sluiceway.ingestion.contracts import Position
from sluiceway.ingestion.errors import LoaderBehind, PipelineBacklogged, SpoolFull
from sluiceway.ingestion.limits import HighWater, Marks
from sluiceway.ingestion.spool.drain import UNKNOWN_WAIT_S, Drain
from sluiceway.ingestion.spool.progress import SpoolProgress, Waiting
from sluiceway.ingestion.spool.segments import path_of
from sluiceway.kit.errors import SluicewayError

START_S = 1_000_000.0


@dataclass
class Written:
    bytes: int = 0
    pipelines: dict[int, int] = field(default_factory=dict)


@dataclass
class Log:
    """A writer as the marks see it."""

    folder: Path
    refusal: SluicewayError | None = None
    stats: Written = field(default_factory=Written)

    @property
    def end(self) -> Position:
        return Position(1, self.stats.bytes)

    def append(self, pipeline_id: int, size: int) -> None:
        self.stats.bytes += size
        self.stats.pipelines[pipeline_id] = self.stats.pipelines.get(pipeline_id, 0) + size


class Scene:
    def __init__(self, folder: Path, pipeline_bytes: int = 1000, lag_s: float = 60.0) -> None:
        self.now = START_S
        self.log = Log(folder)
        self.set_s = 0.0  # by how much the wall clock was set forward
        self.marks = HighWater(
            self.log,
            Marks(pipeline_bytes, lag_s),
            monotonic=lambda: self.now,
            time_s=lambda: self.now + self.set_s,
        )

    def tell(
        self,
        rate: float,
        age_s: float | None = None,
        scanned: int | None = None,
        rest: int = 0,
        **pipelines: int,
    ) -> None:
        """The loader's word, now: what waits by pipeline (`p1=500`), and how old the oldest is.

        `scanned`: how far it has looked (None: it does not say), with `rest` bytes behind that.
        """
        wall = self.now + self.set_s
        oldest = None if age_s is None else int((wall - age_s) * 1e6)
        waiting = {int(name[1:]): Waiting(size, oldest) for name, size in pipelines.items()}
        SpoolProgress(
            wall, "n", Position(1, 0), sum(pipelines.values()) + rest, oldest, rate, waiting,
            None if scanned is None else Position(1, scanned), rest,
        ).save(self.log.folder)  # fmt: skip
        self.now += 1

    def refusal(self, pipeline_id: int = 1) -> SluicewayError | None:
        return self.marks.refusal(pipeline_id)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_empty_spool_refuses_nobody(scene: Scene) -> None:
    assert scene.refusal() is None
    scene.tell(0.0)
    assert scene.refusal() is None
    figures = scene.marks.figures()
    assert (figures.lag_s, figures.waiting_bytes, figures.behind, figures.backlogged) == (0.0, 0, False, ())


def test_the_spools_own_refusal_comes_first_and_is_counted(scene: Scene) -> None:
    scene.log.refusal = SpoolFull("full", retry_after_s=7)
    assert scene.refusal() is scene.log.refusal
    assert scene.marks.book.by_code == {"spool_full": 1}
    scene.log.refusal = None
    assert scene.refusal() is None


def test_one_pipelines_share_is_full_and_the_others_go_on(scene: Scene) -> None:
    scene.tell(100.0, 5, p1=900, p2=300)
    assert scene.refusal(1) is None
    scene.log.append(1, 101)  # since the loader's last word
    refused = scene.refusal(1)
    assert isinstance(refused, PipelineBacklogged) and (refused.status, refused.retryable) == (429, True)
    assert scene.refusal(2) is None and scene.refusal(3) is None
    assert scene.marks.figures().backlogged == (1,)
    scene.tell(100.0, 1, p1=400)
    assert scene.refusal(1) is None


def test_what_a_loader_has_not_looked_at_yet_counts_for_its_pipeline(scene: Scene) -> None:
    for _ in range(4):  # 2,000 bytes, noted on the way
        scene.log.append(1, 400)
        scene.log.append(2, 100)
        scene.now += 1
        scene.refusal(3)
    scene.tell(100.0, 5, scanned=1000, rest=1000, p1=100)  # of what it has seen, most is loaded
    assert scene.refusal(2) is None
    assert scene.marks.waiting_bytes(1) == 100 + 800
    assert scene.marks.waiting_bytes(2) == 200
    assert scene.marks.figures().waiting_bytes == 1100
    scene.log.append(1, 200)
    assert isinstance(scene.refusal(1), PipelineBacklogged)
    scene.now += 1
    scene.refusal(1)
    scene.tell(100.0, 5, scanned=2200, p1=300)
    assert scene.refusal(1) is None
    assert scene.marks.waiting_bytes(1) == 300
    scene.tell(100.0, 5, p1=10)  # one that does not say has seen everything
    assert scene.refusal(1) is None
    assert (scene.marks.waiting_bytes(1), scene.marks.waiting_bytes(2)) == (10, 0)


def test_a_loader_that_is_far_behind_leaves_bounded_notes(scene: Scene) -> None:
    for number in range(1000):
        scene.log.append(number % 3, 1)
        scene.now += 1
        scene.refusal(7)
    notes = scene.marks._appended._notes
    assert len(notes) <= 65
    assert [place for place, _ in notes] == sorted(place for place, _ in notes)
    assert scene.marks.waiting_bytes(0) == 334
    scene.tell(1.0, 1, scanned=900, rest=100)
    scene.refusal(7)
    assert 33 <= scene.marks.waiting_bytes(0) <= 34 + 32 * 16 // 3


@pytest.mark.parametrize(
    ("rate", "own", "other"), [(50.0, 4000, 0), (700.0, 90_000, 30_000), (3.0, 1100, 9000)]
)
def test_a_backlogged_sender_that_waits_as_long_as_told_gets_in(
    scene: Scene, rate: float, own: int, other: int
) -> None:
    scene.tell(rate, 5, p1=own, p2=other)
    refused = scene.refusal(1)
    assert refused is not None and refused.retry_after_s is not None
    wait = refused.retry_after_s
    drained = rate * wait * own / (own + other)  # its part of what is drained
    scene.now += wait
    scene.tell(rate, 5, p1=max(0, int(own - drained)), p2=max(0, int(other - rate * wait + drained)))
    assert scene.refusal(1) is None or wait == 600  # nobody is told to wait longer than that
    assert wait == 600 or wait < 1.01 * max(1.0, (own - 1000) / (rate * own / (own + other)))


def test_without_a_loader_what_is_written_counts(scene: Scene) -> None:
    scene.log.append(1, 1001)
    refused = scene.refusal(1)
    assert refused is not None and refused.retry_after_s == UNKNOWN_WAIT_S
    assert scene.refusal(2) is None


def test_lag_past_the_mark_stops_everybody_until_the_loader_is_back(scene: Scene) -> None:
    scene.tell(100.0, 58, p1=500)
    assert scene.refusal(2) is None
    scene.now += 3  # nobody told anything new: the oldest event has aged
    refused = scene.refusal(2)
    assert isinstance(refused, LoaderBehind) and refused.status == 503 and refused.retry_after_s
    assert scene.marks.figures().behind
    scene.tell(100.0, 2, p1=100)
    assert scene.refusal(2) is None and not scene.marks.figures().behind


def test_a_clock_set_forward_makes_nothing_older(scene: Scene) -> None:
    scene.tell(100.0, 5, p1=500)
    assert scene.refusal() is None
    scene.set_s = 600  # the events wait from before it
    scene.tell(100.0, 606, p1=500)
    assert scene.refusal() is None and scene.marks.figures().lag_s == pytest.approx(7)
    scene.tell(100.0, 1, p1=500)  # received by the new time
    assert scene.refusal() is None and scene.marks.figures().lag_s == pytest.approx(2)
    scene.now += 60  # the loader is silent: these do get older
    assert isinstance(scene.refusal(), LoaderBehind)
    scene.tell(100.0, 2, p1=500)
    scene.set_s = 0.0  # and back again
    assert scene.refusal() is None
    scene.tell(100.0, 62, p1=500)
    assert isinstance(scene.refusal(), LoaderBehind)


def test_a_loader_that_died_with_nothing_waiting_is_noticed(scene: Scene) -> None:
    scene.tell(100.0)
    scene.now += 10_000
    assert scene.refusal() is None  # nothing waits: no lag
    scene.log.append(1, 10)
    scene.now += 1
    assert scene.refusal() is None
    scene.now += 59
    assert scene.refusal() is None
    scene.now += 3
    refused = scene.refusal()
    assert isinstance(refused, LoaderBehind) and refused.retry_after_s == UNKNOWN_WAIT_S


@pytest.mark.parametrize(
    ("rate", "waiting", "age"), [(100.0, 9000, 100.0), (10.0, 900, 65.0), (900.0, 9, 61.0)]
)
def test_who_is_told_to_wait_for_the_lag_is_told_long_enough(
    scene: Scene, rate: float, waiting: int, age: float
) -> None:
    """What waits came evenly over `age` seconds and is drained in order while nothing comes in."""
    scene.tell(rate, age - 1, p1=waiting)
    refused = scene.refusal()
    assert refused is not None and refused.retry_after_s is not None
    wait = refused.retry_after_s
    left = max(0.0, waiting - rate * wait)
    scene.now += wait
    oldest = None if left == 0 else age * left / waiting + wait
    scene.tell(rate, oldest, p1=int(left)) if oldest else scene.tell(rate)
    scene.now -= 1
    assert scene.refusal() is None


@pytest.mark.parametrize(
    ("sizes", "read_to", "missing", "seconds"),
    [
        ([1000, 1000, 1000], Position(1, 400), 1, 6.0),  # the rest of the oldest segment
        ([1000, 1000, 1000], Position(1, 400), 1500, 16.0),  # it takes two
        ([1000, 1000], Position(2, 500), 1, 1.0),  # the oldest is read already: it goes at once
    ],
)
def test_space_comes_back_a_segment_at_a_time(
    tmp_path: Path, sizes: list[int], read_to: Position, missing: int, seconds: float
) -> None:
    for number, size in enumerate(sizes, 1):
        path_of(tmp_path, number).write_bytes(bytes(size))
    drain = Drain(tmp_path, time_s=lambda: START_S)
    assert drain.seconds_to_free(missing) == UNKNOWN_WAIT_S
    SpoolProgress(START_S - 1, "n", read_to, 2000, 1, 100.0).save(tmp_path)
    assert Drain(tmp_path, time_s=lambda: START_S).seconds_to_free(missing) == seconds
    silent = Drain(tmp_path, time_s=lambda: START_S + 3600)
    assert silent.seconds_to_free(missing) == UNKNOWN_WAIT_S
