"""Judging what makes rows and numbers of events: the loader, its gates, gold."""

from sluiceway.health.contracts import Finding, Stage
from sluiceway.health.facts import OtherSpool
from sluiceway.health.view import View, alarm, by, figure, unknown, warn, worst_first
from sluiceway.health.words import clock, count, duration, percent, size
from sluiceway.loading.claims import SpoolNameTaken

LOADING_FAILING_S = 15.0
LOADING_LATE_S = 10.0
LOADING_VERY_LATE_S = 120.0
DEAD_RATIO = 0.05
DEAD_LEAST = 10
GOLD_LATE_S = 300.0
GOLD_VERY_LATE_S = 1_800.0

_START_LOADER = (
    "`sluiceway up` keeps a loader running; by hand it is `sluiceway process loader`. Nothing is lost: it"
    " goes on where it was."
)
_TRIES_AGAIN = (
    "It tries again by itself, at least every five seconds; accepted events stay in the spool meanwhile. See"
    " Database, and the loader's log."
)
_RENAME = (
    "The loader's log names the folder: stop the loader, give the folder a node name of its own"
    " (`sluiceway spool rename`), start it again. Accepted events stay in the spool meanwhile."
)
_CATCHES_UP = (
    "It catches up when senders slow down. If this lasts: fewer expectations in the gates, a faster database,"
    " or a second node with its own spool and loader."
)
_LEFT = (
    "`sluiceway spool list` shows it. A loader of its data folder drains what nobody writes to; else name the"
    " folder in SLUICEWAY_SPOOLS of a loader, or run `sluiceway spool drain`. Nothing is lost."
)
_WORK = {
    "transform": "reading and mapping events",
    "gate": "the quality gate",
    "dedupe": "looking for duplicates",
    "commit": "writing to the database",
}


def loading(view: View) -> Stage:
    now_s, own, whole = view.now.at.timestamp(), view.now.disk.silver, view.now.silver
    lag = None if own is None else own.lag_s(now_s)
    last = None if view.now.database is None else view.age_s(view.now.database.last_batch_at)
    found = [_loading(view, lag, last, 0 if own is None else own.waiting_bytes)]
    found += [_elsewhere(view, other) for other in view.now.others]
    figures = [
        figure("lag", "Behind", None if whole is None else whole.lag_s(now_s), "seconds"),
        figure("waiting", "Waiting", None if whole is None else whole.waiting_bytes, "bytes"),
        figure("rows", "Rows", view.rate("sluiceway_rows_total"), "per_s"),
        figure("last", "Last commit", last, "seconds"),
        figure("batch", "A batch takes", view.mean("sluiceway_batch_seconds"), "seconds"),
        figure("size", "A batch has", view.mean("sluiceway_batch_events"), "count"),
        figure("again", "Duplicates", view.rate("sluiceway_duplicates_total"), "per_s"),
    ]
    about = "Events become typed rows and samples, each exactly once."
    return view.stage("loading", "Loading", about, figures, worst_first(found), "rows")


def _loading(view: View, lag: float | None, last: float | None, behind: int) -> Finding | None:
    silence, trouble = view.silence("loader"), view.trouble("loader", "loading")
    if silence is not None:
        if not behind:
            return warn(f"The loader is not running: {silence}. Nothing waits for it yet.", _START_LOADER)
        return alarm(
            f"The loader has not committed for {_since(lag, last)} although {size(behind)} wait: {silence}.",
            _START_LOADER,
        )
    if trouble is not None:
        words = (
            f"The loader has not committed for {_since(trouble.lasting_s, last)} although {size(behind)}"
            f" wait: {_reason(view, trouble.reason)}."
        )
        advice = _RENAME if SpoolNameTaken.code in trouble.reason else _TRIES_AGAIN
        return Finding(by(LOADING_FAILING_S, trouble.lasting_s), words, advice)
    if lag is not None and lag > LOADING_LATE_S and behind:
        return Finding(
            by(LOADING_VERY_LATE_S, lag),
            f"The loader is {duration(lag)} behind, {size(behind)} wait{_slowest(view)}.",
            _CATCHES_UP,
        )
    return None


def _elsewhere(view: View, other: OtherSpool) -> Finding | None:
    """Of a spool that is not this node's own; nothing as long as nothing waits there."""
    if other.silver is None or not other.silver.waiting_bytes:
        return None
    node, waits = other.node, size(other.silver.waiting_bytes)
    lag = other.silver.lag_s(view.now.at.timestamp())
    if other.seen and not other.attended and lag > LOADING_LATE_S:
        return Finding(
            by(LOADING_VERY_LATE_S, lag),
            f"{waits} wait in the spool of node {node} for up to {duration(lag)}, and no loader works on it.",
            _LEFT,
        )
    silence = None if other.seen else view.silence("loader", node)
    if silence is not None:
        return alarm(
            f"The loader of node {node} is not at work although {waits} wait: {silence}.", _START_LOADER
        )
    trouble = None if other.seen else view.trouble("loader", "loading", node)
    if trouble is not None:
        words = (
            f"The loader of node {node} has not committed for {duration(trouble.lasting_s)} although {waits}"
            f" wait: {_reason(view, trouble.reason)}."
        )
        advice = _RENAME if SpoolNameTaken.code in trouble.reason else _TRIES_AGAIN
        return Finding(by(LOADING_FAILING_S, trouble.lasting_s), words, advice)
    if lag > LOADING_LATE_S:
        words = f"The loader of node {node} is {duration(lag)} behind, {waits} wait."
        return Finding(by(LOADING_VERY_LATE_S, lag), words, _CATCHES_UP)
    return None


def _since(lag: float | None, last: float | None) -> str:
    """How long nothing was committed: not longer than something waits."""
    known = [value for value in (lag, last) if value is not None]
    return duration(min(known)) if known else "a while"


def _reason(view: View, reason: str) -> str:
    if view.now.database is None:
        return f"the database does not answer ({reason})"
    return f"its tries fail ({reason})"


def _slowest(view: View) -> str:
    spent = {stage: view.grown("sluiceway_stage_seconds_sum", stage=stage, origin="live") for stage in _WORK}
    whole = sum(spent.values())
    if whole <= 0:
        return ""
    most = max(spent, key=lambda stage: spent[stage])
    return f"; {percent(spent[most] / whole)} of its time goes into {_WORK[most]}"


def gate(view: View) -> Stage:
    rows, dead = view.grown("sluiceway_rows_total"), view.grown("sluiceway_dead_letters_total")
    findings = [
        warn(
            f"The gate of {held.pipeline} holds {count(held.events, 'event')} since"
            f" {clock(held.since, view.now.at)}: they are in no number until someone decides.",
            "Look at them under Dead letters: retrying lets them through, discarding drops them.",
        )
        for held in view.held
    ]
    if dead >= DEAD_LEAST and dead >= DEAD_RATIO * (rows + dead):
        findings.append(
            warn(
                f"{percent(dead / (rows + dead))} of the last minute's events were set aside"
                f" ({count(dead, 'dead letter')}).",
                "Dead letters name the reason of each; mostly a sender has changed what it sends, or an"
                " expectation has become too strict.",
            )
        )
    figures = [
        figure("time", "A batch's check", view.mean("sluiceway_stage_seconds", stage="gate"), "seconds"),
        figure("batches", "Batches", view.rate("sluiceway_batches_total"), "per_s"),
        figure("dead", "Dead letters", view.rate("sluiceway_dead_letters_total"), "per_s"),
        figure("held", "On hold", sum(held.events for held in view.held), "count"),
    ]
    about = "Expectations are checked before rows count; what fails is set aside with its reason."
    return view.stage("gate", "Quality gate", about, figures, findings, "time")


def gold(view: View) -> Stage:
    found = view.now.database
    lag = None if found is None else view.age_s(found.dirty_oldest) or 0.0
    findings: list[Finding] = []
    silence, trouble = view.silence("worker"), view.job("gold")
    meanwhile = "Numbers stay right: reads add what gold lacks, only more slowly."
    if found is None:
        findings.append(unknown("How far gold is cannot be told while the database is away."))
    elif silence is not None and lag is not None and lag > GOLD_LATE_S:
        findings.append(
            Finding(
                by(GOLD_VERY_LATE_S, lag),
                f"Gold was not refreshed for {duration(lag)}: the worker does it, and {silence}.",
                f"Start it: `sluiceway process worker`. {meanwhile}",
            )
        )
    elif trouble is not None:
        findings.append(
            Finding(
                by(GOLD_LATE_S, trouble.lasting_s),
                f"Refreshing gold fails for {duration(trouble.lasting_s)}: {trouble.reason}.",
                f"The worker's log says more; `sluiceway doctor` checks what dbt has built. {meanwhile}",
            )
        )
    elif lag is not None and lag > GOLD_LATE_S:
        findings.append(
            Finding(
                by(GOLD_VERY_LATE_S, lag),
                f"Gold is {duration(lag)} behind: {count(found.dirty_buckets, 'bucket')} wait for a refresh.",
                f"A long replay or many late events do this for a while. {meanwhile}",
            )
        )
    figures = [
        figure("lag", "Behind", lag, "seconds"),
        figure("dirty", "To refresh", None if found is None else found.dirty_buckets, "count"),
        figure("refresh", "A refresh", view.mean("sluiceway_gold_refresh_seconds"), "seconds"),
        figure("buckets", "Refreshed", view.rate("sluiceway_gold_buckets_total"), "per_s"),
    ]
    about = "Sums and means by minute, hour and day, refreshed where something changed."
    return view.stage("gold", "Gold", about, figures, findings, "lag")
