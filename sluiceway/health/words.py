"""Numbers as people say them: for the sentences of findings."""

from datetime import datetime, timedelta


def duration(value_s: float) -> str:
    """0.25 → '250 ms', 42 → '42 s', 200 → '3 min', 9000 → '2.5 h', 300000 → '3 days'."""
    if value_s < 1:
        return f"{value_s * 1000:.0f} ms"
    if value_s < 10:
        return f"{value_s:.1f} s"
    if value_s < 120:
        return f"{value_s:.0f} s"
    if value_s < 7_200:
        return f"{value_s / 60:.0f} min"
    return f"{value_s / 3600:.1f} h" if value_s < 172_800 else f"{value_s / 86_400:.0f} days"


def size(value_bytes: float) -> str:
    """1300 → '1.3 kB', in steps of 1024."""
    for unit in ("B", "kB", "MB", "GB"):
        if value_bytes < 1024:
            return f"{value_bytes:.0f} B" if unit == "B" else f"{value_bytes:.1f} {unit}"
        value_bytes /= 1024
    return f"{value_bytes:.1f} TB"


def count(value: float, one: str, many: str | None = None) -> str:
    """'1 event', '12,000 events'."""
    return f"{value:,.0f} {one if round(value) == 1 else many or one + 's'}"


def percent(ratio: float) -> str:
    return "less than 1%" if 0 < ratio < 0.01 else f"{ratio:.0%}"


def clock(at: datetime, now: datetime) -> str:
    """'14:03 UTC', with the day unless it was within the last twelve hours."""
    return f"{at:%H:%M} UTC" if now - at < timedelta(hours=12) else f"{at:%d %b %H:%M} UTC"
