"""Which processes a seed kills, and where: at points (`sluiceway.kit.faults`) or at moments."""

from dataclasses import dataclass
from typing import Any

from sluiceway.kit.faults import POINTS
from tests.support.faults.world import PROCESSES, World, chance_of

OWNERS = {"spool": "web", "route": "web", "live": "web", "gold": "worker", "outbox": "worker"}
"""Whose process a point lies in, by the first part of its name; all others lie in the loader's."""
OF_LOADER = ("spool.trim_begin", "spool.trimmed")
SELDOM = ("spool.roll", "spool.trim", "outbox", "gold", "lake", "loader.lease")
UNREACHED_S = 20.0
"""How long a point is waited for; then the process is killed wherever it is."""


@dataclass(frozen=True, slots=True)
class Kill:
    """`point` None: at a moment, `after_s` after the process was started."""

    process: str
    point: str | None
    nth: int = 1
    after_s: float = 0.0

    def __str__(self) -> str:
        where = f"at {self.point} (pass {self.nth})" if self.point else f"after {self.after_s:.2f} s"
        return f"{self.process} {where}"

    @property
    def armed(self) -> dict[str, Any]:
        return {"point": self.point, "nth": self.nth}


def process_of(point: str) -> str:
    if point in OF_LOADER:
        return "loader"
    return OWNERS.get(point.partition(".")[0], "loader")


def plan(seed: int) -> list[Kill]:
    """The seed's kills, in order. The first point goes round, so that a run of seeds passes all of them."""
    chance = chance_of("kills", seed)
    points = sorted(POINTS)
    kills: list[Kill] = []
    for number in range(chance.choice([2, 3, 3, 4])):
        if number and chance.random() < 0.25:
            kills.append(Kill(chance.choice(PROCESSES), None, after_s=chance.random() * 0.8))
            continue
        point = points[seed % len(points)] if number == 0 else chance.choice(points)
        most = 1 if point.startswith("spool.recover") else 2 if point.startswith(SELDOM) else 8
        kills.append(Kill(process_of(point), point, nth=chance.randint(1, most)))
    return kills


def carry_out(world: World, kill: Kill) -> str:
    """Let a process be killed as the plan says, and start it again at once; returns what happened."""
    role = kill.process
    world.check_alive(role)
    child = world.children[role]
    told = str(kill)
    if kill.point is None:
        child.ended.wait(kill.after_s)
        world.check_alive(role)
        child.kill()
    else:
        # A process that knows its point: started anew, which is a kill as well.
        child.kill()
        child = world.start(role, **kill.armed)
        if child.ended.wait(UNREACHED_S):
            assert child.code == -9, f"{role} ended by itself with {child.code}:\n{child.tail()}"
        else:
            child.kill()
            told = f"{role} after {UNREACHED_S} s without {kill.point}"
    world.start(role)
    return told
