"""Where widgets stand: places for those that have none, and what a new spec does to moved ones. Pure."""

from collections.abc import Mapping

from sluiceway.dashboards.contracts import COLUMNS, DashboardSpec, Layout, Position, Widget

_SIZES = {"stat": (3, 3), "line": (6, 4), "bar": (6, 4), "table": (6, 4), "text": (6, 2)}


def place(spec: DashboardSpec, kept: Mapping[str, Position] | None = None) -> Layout:
    """A position for every widget: as `kept`, as the spec says, else the first free place from the top."""
    found: Layout = {}
    homeless: list[Widget] = []
    for widget in spec.widgets:
        position = (kept or {}).get(widget.id) or widget.layout
        if position is None:
            homeless.append(widget)
        else:
            found[widget.id] = position
    for widget in homeless:
        width, height = _SIZES[widget.type]
        found[widget.id] = _free_place(found, width, height)
    return {widget.id: found[widget.id] for widget in spec.widgets}


def carry_over(old: DashboardSpec, moved: Layout, new: DashboardSpec) -> Layout:
    """Positions after the spec changed: people's moves stay, but for widgets whose place the file changed."""
    before = {widget.id: widget.layout for widget in old.widgets}
    kept = {
        widget.id: moved[widget.id]
        for widget in new.widgets
        if widget.id in moved and before.get(widget.id) == widget.layout
    }
    return place(new, kept)


def _free_place(taken: Layout, width: int, height: int) -> Position:
    bottom = max((p.y + p.h for p in taken.values()), default=0)
    for y in range(bottom + 1):
        for x in range(COLUMNS - width + 1):
            wanted = Position(x=x, y=y, w=width, h=height)
            if not any(_overlap(wanted, other) for other in taken.values()):
                return wanted
    return Position(x=0, y=bottom, w=width, h=height)


def _overlap(a: Position, b: Position) -> bool:
    return a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h
