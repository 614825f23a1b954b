"""Why one event cannot become a row. Never leaves the slice: it turns into `contracts.Rejected`."""

from sluiceway.transforms.contracts import Step

MAX_REASON = 500


class CannotMap(Exception):
    """`code` is stable; `reason` is a whole sentence that names the field and what was expected."""

    def __init__(self, step: Step, code: str, reason: str) -> None:
        super().__init__(reason)
        self.step: Step = step
        self.code = code
        self.reason = reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 1] + "…"
