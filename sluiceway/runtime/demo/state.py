"""What the demo has sent already, kept beside the data, so that running it again adds nothing twice."""

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import orjson

from sluiceway.runtime.accounts import write_private


@dataclass(slots=True)
class DemoState:
    """`days` were sent whole, by pipeline; after them, everything `until` was; `rounds` counts replays."""

    path: Path
    days: dict[str, set[date]] = field(default_factory=dict)
    until: datetime | None = None
    rounds: int = 0
    deliveries: int = 0

    @classmethod
    def load(cls, path: Path) -> "DemoState":
        if not path.exists():
            return cls(path)
        known = orjson.loads(path.read_bytes())
        return cls(
            path,
            {name: {date.fromisoformat(day) for day in days} for name, days in known["days"].items()},
            datetime.fromisoformat(known["until"]) if known["until"] else None,
            known["rounds"],
            known["deliveries"],
        )

    def save(self) -> None:
        document = {
            "days": {name: sorted(day.isoformat() for day in days) for name, days in self.days.items()},
            "until": self.until.isoformat() if self.until else None,
            "rounds": self.rounds,
            "deliveries": self.deliveries,
        }
        write_private(self.path, orjson.dumps(document))

    def sent(self, pipeline: str, day: date) -> bool:
        return day in self.days.get(pipeline, ())

    def note(self, pipeline: str, days: set[date]) -> None:
        """Remember that these days are accepted, whole."""
        self.days.setdefault(pipeline, set()).update(days)
        self.save()
