"""How the platform is: every stage of an event's way with its figures, and what is wrong in words."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import client

_STYLE = Path(__file__).parents[1] / "health.css"
_TONES = {"ok": "good", "unknown": "neutral", "warning": "warning", "critical": "critical"}
_WORDS = {"ok": "Well", "unknown": "Not known", "warning": "Look at it", "critical": "Broken"}
_PROCESS_WORDS = {"ok": "Running", "warning": "Stopped", "critical": "Silent", "unknown": "Not known"}
_WIDTH, _HEIGHT = 240.0, 44.0

# What is to come, before the first answer: the web process measures for a moment after its start.
_WAITING = (
    "<div class='sw-page' role='status' aria-label='Measuring'>"
    "<div class='sw-wait' style='height:54px'></div><div class='sw-wait' style='height:94px'></div>"
    f"<div class='sw-stages'>{'<div class=sw-wait style=height:208px></div>' * 10}</div></div>"
)


def show() -> None:
    """The headline, the way of an event, what to do, every stage, every process; renewed by itself."""
    st.html(f"<style>{_STYLE.read_text()}</style>")
    ui.heading("Health", "Whether events flow, and what to do where they do not.")
    waiting = st.empty()
    if not st.session_state.get("health_seen"):
        waiting.html(_WAITING)
    _now()
    waiting.empty()
    st.session_state["health_seen"] = True


@st.fragment(run_every="3s")
def _now() -> None:
    with ui.guarded():
        found = client().get("/v1/health/stages")
        stages = found["stages"]
        cards = "".join(_card(stage, found["history_step_s"]) for stage in stages)
        # One block: with several, those behind the findings would jump whenever these come or go.
        st.html(
            f"<div class='sw-page'>{_headline(found)}{_way(stages)}{_findings(stages)}"
            f"<div class='sw-stages'>{cards}</div></div>"
        )
        _processes(found["processes"])


def _headline(found: dict[str, Any]) -> str:
    tone = _TONES[found["state"]]
    mark = {"good": "✓", "warning": "!", "critical": "✕"}.get(tone, "?")
    return (
        f"<div class='sw-health' data-tone='{tone}' role='status'><i aria-hidden='true'>{mark}</i>"
        f"<strong>{escape(found['words'])}</strong>"
        f"<time datetime='{escape(found['at'])}'>{ui.clock(found['at'])} {ui.zone_name(found['at'])}</time>"
        "</div>"
    )


def _way(stages: Sequence[dict[str, Any]]) -> str:
    """An event's way as a line of stages; what it stands on is beside it."""
    steps = "".join(
        f"<li class='sw-step-{escape(stage['key'])}' data-tone='{_TONES[stage['state']]}'>"
        f"<span class='sw-node' aria-hidden='true'></span><b>{escape(stage['title'])}</b>"
        f"<small>{_value(_trend(stage))}</small>"
        f"<em>{_WORDS[stage['state']]}</em></li>"
        for stage in stages
    )
    return f"<ol class='sw-way' aria-label='The way of an event'>{steps}</ol>"


def _findings(stages: Sequence[dict[str, Any]]) -> str:
    """What is wrong, the most serious first; empty if nothing is."""
    order = ("critical", "warning", "unknown")
    found = [(finding, stage["title"]) for stage in stages for finding in stage["findings"]]
    found.sort(key=lambda pair: order.index(pair[0]["state"]))
    items = "".join(
        f"<li data-tone='{_TONES[finding['state']]}'>{ui.badge(title, _TONES[finding['state']])}"
        f"<p>{escape(finding['words'])}</p><p class='sw-advice'>{_code(finding['advice'])}</p></li>"
        for finding, title in found
    )
    return f"<ul class='sw-findings'>{items}</ul>" if items else ""


def _card(stage: dict[str, Any], step_s: float) -> str:
    tone = _TONES[stage["state"]]
    trend = _trend(stage)
    rest = "".join(
        f"<div><dt>{escape(figure['label'])}</dt><dd>{_value(figure)}</dd></div>"
        for figure in stage["figures"]
        if figure["key"] != trend["key"]
    )
    minutes = max(1, round(len(stage["history"]) * step_s / 60))
    chart = sparkline(stage["history"], f"{trend['label']}, the last {minutes} min")
    return (
        f"<section class='sw-stage' data-stage='{escape(stage['key'])}' data-tone='{tone}'>"
        f"<header><h2>{escape(stage['title'])}</h2>{ui.badge(_WORDS[stage['state']], tone)}</header>"
        f"<p>{escape(stage['about'])}</p>"
        f"<div class='sw-trend'><div><dt>{escape(trend['label'])}</dt><dd>{_value(trend)}</dd></div>"
        f"{chart}</div>"
        f"<dl>{rest}</dl></section>"
    )


def _trend(stage: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(f for f in stage["figures"] if f["key"] == stage["trend"])
    return found


def _value(figure: dict[str, Any]) -> str:
    value, unit = figure["value"], figure["unit"]
    if value is None:
        return "–"
    if unit == "ratio":
        return f"{value:.0%}" if value >= 0.01 or value == 0 else "&lt; 1%"
    shown = {"per_s": ui.rate, "bytes": ui.size, "seconds": ui.seconds}.get(unit, ui.count)
    return escape(shown(value))


def _code(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def sparkline(history: Sequence[float | None], label: str) -> str:
    """HTML of a small line chart without axes; gaps where a value is not known.

    A mask on the text's color: the page lets no SVG elements through, and so it follows the theme.
    """
    known = [value for value in history if value is not None]
    name = escape(label, quote=True)
    if len(known) < 2:
        return f"<div class='sw-spark sw-none' role='img' aria-label='{name}: not enough yet'></div>"
    low, high = min(known), max(known)
    low = max(0.0, low - 0.6 * (high - low)) if low > 0.5 * high and high > low else min(0.0, low)
    step, span = _WIDTH / (len(history) - 1), (high - low) or 1.0
    lines, areas = [], []
    for run in _runs(history):
        points = " ".join(f"{i * step:.1f},{3 + (_HEIGHT - 6) * (1 - (v - low) / span):.1f}" for i, v in run)
        first, last = run[0][0] * step, run[-1][0] * step
        lines.append(f"<polyline points='{points}'/>")
        areas.append(f"<polygon points='{points} {last:.1f},{_HEIGHT} {first:.1f},{_HEIGHT}'/>")
    picture = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH:.0f} {_HEIGHT:.0f}'"
        f" preserveAspectRatio='none'><g fill-opacity='.13'>{''.join(areas)}</g><g fill='none' stroke='#000'"
        f" stroke-width='1.7' stroke-linejoin='round'>{''.join(lines)}</g></svg>"
    )
    return (
        f"<div class='sw-spark' role='img' aria-label='{name}'"
        f" style='--chart:url(\"data:image/svg+xml,{quote(picture)}\")'></div>"
    )


def _runs(history: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches of at least two known values, with their places."""
    runs: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(history):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return [run for run in runs if len(run) > 1]


def _processes(processes: Sequence[dict[str, Any]]) -> None:
    st.html("<h2 class='sw-sub'>Processes</h2>")
    ui.table(
        [
            ("Node", "text"), ("Process", "text"), ("State", "text"), ("Heard of", "text"),
            ("Running since", "text"), ("Memory", "number"), ("Processor", "number"),
        ],
        [
            [
                escape(one["node"]),
                escape(one["name"]),
                ui.dot(_PROCESS_WORDS[one["state"]], _TONES[one["state"]]),
                escape(ui.ago(one["heard_at"])),
                ui.clock(one["started_at"]),
                ui.size(one["memory_bytes"]),
                "–" if one["cpu_ratio"] is None else f"{one['cpu_ratio']:.0%}",
            ]
            for one in processes
        ],
        "No process has reported yet",
    )  # fmt: skip
