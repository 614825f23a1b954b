"""A report in words: a table a pipeline, the first ids of each kind, and one plain verdict."""

from collections.abc import Iterator

from sluiceway.verification.contracts import LAYERS, LayerReport, PipelineReport, Report

_KINDS = ("missing", "doubled", "extra", "wrong")
_HEAD = "  {:<9} {:>13} {:>9} {:>9} {:>9} {:>9}"


def as_text(report: Report, *, exact: bool = False) -> str:
    """The whole report, for a person."""
    lines: list[str] = []
    for found in report.pipelines:
        lines += [*_pipeline(found), ""]
    if report.left_out:
        lines += [f"Not looked at, though the ledger names it: {', '.join(report.left_out)}."]
    return "\n".join([*lines, verdict(report, exact=exact)])


def verdict(report: Report, *, exact: bool = False) -> str:
    """One sentence."""
    if not report.pipelines:
        return "There is nothing to verify: no pipeline is named, and the workspace has none."
    if report.passed(exact=exact):
        are = "is" if report.extra == 1 else "are"
        also = f" {report.extra:,} {are} extra: nobody acknowledged them." if report.extra else ""
        return f"Nothing is missing and nothing is doubled.{also}"
    kinds = ("missing", "doubled", "wrong", "extra") if exact else ("missing", "doubled", "wrong")
    parts = [
        f"{found.pipeline}: {layer.layer} {', '.join(wrong)}"
        for found in report.pipelines
        for layer in _layers(found)
        if (wrong := [f"{ids.count:,} {kind}" for kind in kinds if (ids := getattr(layer, kind))])
    ]
    parts += [
        f"{found.pipeline}: {found.layer('silver').waiting:,} wait to be loaded"
        for found in report.pipelines
        if found.acknowledged is not None and found.layer("silver").waiting
    ]
    return "Not whole: " + "; ".join(parts) + "."


def _layers(found: PipelineReport) -> Iterator[LayerReport]:
    return (found.layers[name] for name in LAYERS if name in found.layers)


def _pipeline(found: PipelineReport) -> Iterator[str]:
    if found.acknowledged is None:
        yield f"{found.pipeline}: the layers compared with one another"
    else:
        named = "line" if found.repeated == 1 else "lines"
        again = f" ({found.repeated:,} {named} named one again)" if found.repeated else ""
        yield f"{found.pipeline}: {found.acknowledged:,} acknowledged ids{again}"
    yield _HEAD.format("layer", "checked", *_KINDS)
    for layer in _layers(found):
        counts = [f"{getattr(layer, kind).count:,}" for kind in _KINDS]
        yield _HEAD.format(layer.layer, f"{layer.checked:,}", *counts)
    for layer in _layers(found):
        yield from _remarks(layer)
    letters = found.dead_letters
    if letters.total:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in letters.reasons.items())
        accounted = f"; {letters.accounted:,} acknowledged ids are among them" if letters.accounted else ""
        yield f"  dead letters: {reasons}{accounted}"
    if found.balance is not None:
        yield f"  {_balance(found)}"


def _remarks(layer: LayerReport) -> Iterator[str]:
    for kind in _KINDS:
        ids = getattr(layer, kind)
        if ids.first:
            more = f" and {ids.count - len(ids.first):,} more" if ids.count > len(ids.first) else ""
            yield f"  {layer.layer}, {kind}: {', '.join(ids.first)}{more}"
    if layer.waiting:
        where = "to be written to the lake" if layer.layer == "bronze" else "to be loaded"
        yield f"  {layer.layer}: {layer.waiting:,} wait {where}"
    if layer.out_of_reach:
        yield f"  {layer.layer}: {layer.out_of_reach:,} are past retention, out of reach"
    if layer.note:
        yield f"  {layer.layer}: {layer.note}"


def _balance(found: PipelineReport) -> str:
    balance = found.balance
    assert balance is not None
    parts = [
        (balance.rows, "rows"),
        (balance.letters, "dead letters"),
        (balance.again, "delivered again"),
        (balance.waiting, "waiting"),
        (balance.old, "past silver's retention"),
        (balance.lost, "lost"),
    ]
    shown = [f"{count:,} {name}" for count, name in parts if count or name == "rows"]
    return f"{balance.events:,} events in bronze = {' + '.join(shown)}"
