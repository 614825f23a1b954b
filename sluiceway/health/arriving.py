"""Judging what takes events in and keeps them: the event route, the spool, the lake's writer, the disk."""

from sluiceway.health.contracts import Finding, Stage
from sluiceway.health.facts import OtherSpool
from sluiceway.health.view import View, alarm, by, figure, warn, worst_first
from sluiceway.health.words import count, duration, percent, size

REFUSED_RATIO = 0.05
REFUSED_LEAST = 5
SLOW_SYNC_S = 0.25
SPOOL_WARNING_RATIO = 0.7
BRONZE_FAILING_S = 60.0
BRONZE_LATE_S = 120.0
BRONZE_VERY_LATE_S = 900.0
DISK_TIGHT_RATIO = 0.05
DISK_NEAR_RESERVE = 1.25
DISK_SOON_S = 3_600.0

_NOT_REFUSED = ("accepted", "handshake", "client_gone", "internal")


def receiving(view: View) -> Stage:
    requests = view.grown("sluiceway_ingest_requests_total")
    failed = view.grown("sluiceway_ingest_requests_total", code="internal")
    refused, most = _refusals(view)
    sync = None if view.window is None else view.window.quantile("sluiceway_spool_sync_seconds", 0.99)
    findings: list[Finding] = []
    if broken := view.grown("sluiceway_spool_failures_total"):
        findings.append(
            alarm(
                f"{count(broken, 'write')} to the spool failed within the last minute; those requests were"
                " answered 503 and will be sent again.",
                "Look at the disk (dmesg, its mount options) and at the web process's log.",
            )
        )
    if failed:
        findings.append(
            alarm(
                f"{count(failed, 'request')} of the last minute failed for a fault of the platform.",
                "The web process's log has each with its request id; please report it.",
            )
        )
    if refused >= REFUSED_LEAST and refused >= REFUSED_RATIO * requests:
        findings.append(
            warn(
                f"{percent(refused / requests)} of the last minute's requests were refused, most with code"
                f" {most}.",
                "Their senders are told why; docs/ingestion.md lists the codes, and /metrics counts"
                " sluiceway_ingest_requests_total by them.",
            )
        )
    if sync is not None and sync > SLOW_SYNC_S:
        findings.append(
            warn(
                f"The disk takes up to {duration(sync)} to make events durable, and senders wait for it.",
                "Give the spool (SLUICEWAY_HOME) a faster disk, or one that others use less.",
            )
        )
    figures = [
        figure("events", "Events", view.rate("sluiceway_spool_events_total"), "per_s"),
        figure("requests", "Requests", view.rate("sluiceway_ingest_requests_total"), "per_s"),
        figure("refused", "Refused", None if view.window is None else refused / view.window.seconds, "per_s"),
        figure("sync", "Disk sync, 99%", sync, "seconds"),
    ]
    about = "Senders' requests are checked and written to disk before they are answered."
    return view.stage("receiving", "Receiving", about, figures, findings, "events")


def _refusals(view: View) -> tuple[float, str]:
    """How many requests of the last minute were refused, and with which code most."""
    codes = {
        labels["code"]
        for report in view.now.reports
        for labels, _ in report.samples.get("sluiceway_ingest_requests_total", ())
    }
    found = {
        code: view.grown("sluiceway_ingest_requests_total", code=code)
        for code in sorted(codes - set(_NOT_REFUSED))
    }
    return sum(found.values()), max(found, key=lambda code: found[code], default="")


def spool(view: View) -> Stage:
    disk_ = view.now.disk
    used, most = disk_.spool_bytes, disk_.spool_max_bytes
    corrupt = view.now.total("sluiceway_corrupt_records_total")
    findings: list[Finding] = []
    if (refusal := view.now.state_of("web", "refusal")) == "spool_full" or used >= most:
        findings.append(
            alarm(
                f"The spool is full ({size(used)} of {size(most)}): new events are refused with 503.",
                "Nothing that was accepted is lost. See what holds up loading or bronze; it empties by itself"
                " afterwards. SLUICEWAY_SPOOL_MAX_BYTES sets its size.",
            )
        )
    elif used >= SPOOL_WARNING_RATIO * most:
        findings.append(
            warn(
                f"The spool is {percent(used / most)} full ({size(used)} of {size(most)}).",
                "At 100% new events are refused. See what holds up loading or bronze.",
            )
        )
    if refusal is not None and refusal not in ("spool_full", "disk_full"):
        findings.append(alarm(f"New events are refused ({refusal}).", "The web process's log says more."))
    findings += _refused_elsewhere(view)
    if corrupt:
        findings.append(
            warn(
                f"{count(corrupt, 'unreadable stretch', 'unreadable stretches')} of the spool were skipped.",
                "The loader's log names segment and offset. Check the disk; `sluiceway verify` compares with"
                " the senders' ledger.",
            )
        )
    figures = [
        figure("used", "In the spool", used, "bytes"),
        figure("full", "Full", used / most, "ratio"),
        figure("segments", "Segments", disk_.segments, "count"),
        figure("unreadable", "Unreadable", corrupt, "count"),
    ]
    about = "Accepted events wait here until they are both loaded and in the lake."
    return view.stage("spool", "Spool", about, figures, findings, "used")


def _refused_elsewhere(view: View) -> list[Finding]:
    """By any process that takes events but this node's web process, which is judged by its own disk."""
    found = []
    for report in view.now.reports:
        own = (report.node, report.process) == (view.now.node, "web")
        refusal = None if own or report.is_silent(view.now.at) else report.state.get("refusal")
        if refusal is not None:
            words = f"New events are refused on node {report.node} ({refusal})."
            advice = "What was accepted is safe. See that node's disk, and what holds up loading or bronze."
            found.append(alarm(words, advice))
    return found


def bronze(view: View) -> Stage:
    now_s, waiting, whole = view.now.at.timestamp(), view.now.disk.bronze, view.now.bronze
    lag = None if waiting is None else waiting.lag_s(now_s)
    held_back = 0 if waiting is None else waiting.waiting_bytes
    findings: list[Finding] = []
    silence, trouble = view.silence("loader"), view.trouble("loader", "bronze")
    late = view.now.flush_s + BRONZE_LATE_S
    if silence is not None and held_back:
        findings.append(
            alarm(
                f"Nothing is written to the lake although {size(held_back)} wait: the loader does it,"
                f" and {silence}.",
                "See Loading. Nothing is lost: what was accepted stays in the spool.",
            )
        )
    elif trouble is not None:
        words = (
            f"Bronze has not been written for {duration(trouble.lasting_s)}, {size(held_back)} wait:"
            f" {trouble.reason}."
        )
        advice = (
            f"Check that the lake can be reached and written to ({view.now.lake}). Loading goes on, nothing"
            " is lost, and it is tried again by itself."
        )
        findings.append(Finding(by(BRONZE_FAILING_S, trouble.lasting_s), words, advice))
    elif lag is not None and lag > late:
        findings.append(
            Finding(
                by(BRONZE_VERY_LATE_S, lag),
                f"Bronze is {duration(lag)} behind: {size(held_back)} wait to be written to the lake.",
                "The lake takes longer than the events come. Uploads' times are under Bronze in /metrics.",
            )
        )
    figures = [
        figure("lag", "Behind", None if whole is None else whole.lag_s(now_s), "seconds"),
        figure("waiting", "Waiting", None if whole is None else whole.waiting_bytes, "bytes"),
        figure("put", "An upload", view.mean("sluiceway_lake_put_seconds"), "seconds"),
        figure("events", "Written", view.rate("sluiceway_lake_events_total"), "per_s"),
    ]
    about = "Every event's bytes go to the lake as they came, for replays and for ever."
    found = worst_first([*findings, *(_bronze_elsewhere(view, other) for other in view.now.others)])
    return view.stage("bronze", "Bronze", about, figures, found, "waiting")


def _bronze_elsewhere(view: View, other: OtherSpool) -> Finding | None:
    """Of a spool that is not this node's own; whether a loader is at it at all is told under Loading."""
    if other.bronze is None or not other.bronze.waiting_bytes:
        return None
    waits, trouble = size(other.bronze.waiting_bytes), view.trouble("loader", "bronze", other.node)
    if trouble is not None and not other.seen:
        since = duration(trouble.lasting_s)
        words = f"Bronze of node {other.node} has not been written for {since}, {waits} wait:"
        advice = (
            "Check that the lake can be reached and written to from there. Loading goes on, nothing is lost."
        )
        return Finding(by(BRONZE_FAILING_S, trouble.lasting_s), f"{words} {trouble.reason}.", advice)
    lag = other.bronze.lag_s(view.now.at.timestamp())
    if lag <= view.now.flush_s + BRONZE_LATE_S:
        return None
    words = f"Bronze of node {other.node} is {duration(lag)} behind: {waits} wait to be written to the lake."
    advice = "See whether its loader runs (Loading); else the lake takes longer than the events come."
    return Finding(by(BRONZE_VERY_LATE_S, lag), words, advice)


def disk(view: View) -> Stage:
    found = view.now.disk
    free, reserve = found.disk_free_bytes, found.disk_reserve_bytes
    left_s = _seconds_left(view)
    findings: list[Finding] = []
    if free < reserve:
        findings.append(
            alarm(
                f"Only {size(free)} of the disk are free, less than the reserve of {size(reserve)}:"
                " new events are refused with 503.",
                "Free some space: old logs, other programs' files; or move SLUICEWAY_HOME to a larger disk.",
            )
        )
    elif left_s is not None and left_s < DISK_SOON_S:
        findings.append(
            warn(
                f"At the pace of the last minutes the disk is full in {duration(left_s)}"
                f" ({size(free)} are free).",
                "See what grows: the spool while something holds up loading or bronze, else the database.",
            )
        )
    elif free < DISK_NEAR_RESERVE * reserve or (
        free < DISK_TIGHT_RATIO * found.disk_total_bytes and free < 8 * max(reserve, 1 << 28)
    ):
        findings.append(
            warn(
                f"{size(free)} of the disk are free ({percent(free / found.disk_total_bytes)}).",
                f"At {size(reserve)} new events are refused. Free some space or use a larger disk.",
            )
        )
    figures = [
        figure("free", "Free", free, "bytes"),
        figure("part", "Free", free / found.disk_total_bytes, "ratio"),
        figure("reserve", "Reserve", reserve, "bytes"),
        figure("spool", "Spool", found.spool_bytes, "bytes"),
    ]
    about = "Where SLUICEWAY_HOME lies: spool, logs, and the embedded database."
    return view.stage("disk", "Disk", about, figures, findings, "free")


def _seconds_left(view: View) -> float | None:
    """Until the reserve is reached at the pace of what is remembered; None: never, or not known."""
    points = [(at, point["disk"]) for at, point in view.past.points if point.get("disk") is not None]
    if len(points) < 2 or (elapsed := (points[-1][0] - points[0][0]).total_seconds()) < 300:
        return None
    lost = (points[0][1] or 0.0) - (points[-1][1] or 0.0)
    room = (points[-1][1] or 0.0) - view.now.disk.disk_reserve_bytes
    return room / (lost / elapsed) if lost > 0 else None
