"""Events that could not become rows: why, what they held, and what to do with them."""

import base64
import json
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import ui
from dashboards_app.client import Problem, client

STATES = {"open": "Open", "held": "Held", "retried": "Retried", "discarded": "Discarded"}
_TONES = {"open": "warning", "held": "critical", "retried": "good", "discarded": "neutral"}
PAGE = 25


def show() -> None:
    """Dead letters by pipeline and state, newest first, with retry and discard."""
    ui.heading("Dead letters", "Events that could not become rows. Nothing is lost: correct the pipeline and retry.")
    pipelines = {p["slug"]: p["title"] for p in client().items("/v1/pipelines", limit=200)}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        slug = st.selectbox(
            "Pipeline", [None, *pipelines], format_func=lambda s: pipelines.get(s, "All pipelines"), key="letters-pipeline", width=280
        )
        state = st.segmented_control(
            "State", list(STATES), format_func=STATES.__getitem__, default="open", key="letters-state"
        )
    found = client().get("/v1/dead-letters", pipeline=slug, state=state, limit=PAGE, cursor=_cursor(slug, state))
    letters = found["items"]
    if not letters:
        ui.nothing("No dead letters here", "Every event of this choice became a row.")
    for letter in letters:
        _letter(letter)
    if found.get("next_cursor") and st.button("Older", icon=":material/expand_more:"):
        st.session_state["letters-cursor"] = (slug, state, found["next_cursor"])
        st.rerun()


def _cursor(slug: str | None, state: str | None) -> str | None:
    """Where this list goes on; another choice begins again at the newest."""
    kept = st.session_state.get("letters-cursor")
    return kept[2] if kept and kept[:2] == (slug, state) else None


def _letter(letter: dict[str, Any]) -> None:
    with st.container(key=f"letter-{letter['id']}", border=True):
        st.html(
            f"<div class='sw-letter'><div>{ui.badge(STATES.get(letter['state'], letter['state']), _TONES.get(letter['state'], 'neutral'))}"
            f"<strong>{escape(letter['pipeline'])}</strong><span>{escape(letter['step'])} step</span>"
            f"<time>{ui.clock(letter.get('created_at') or letter.get('received_at'))}</time></div>"
            f"<p>{escape(letter['reason'])}</p></div>"
        )
        with st.expander("Payload"):
            st.code(payload_text(letter), language="json", wrap_lines=True)
        if letter["state"] in ("open", "held"):
            with st.container(horizontal=True):
                if st.button("Retry", key=f"retry-{letter['id']}", icon=":material/replay:"):
                    _act(letter, "retry")
                if st.button("Discard", key=f"discard-{letter['id']}", type="tertiary"):
                    _act(letter, "discard")


def _act(letter: dict[str, Any], action: str) -> None:
    try:
        answer = client().post(f"/v1/dead-letters/{letter['id']}/{action}")
    except Problem as found:
        st.toast(str(found), icon=":material/error:")
        return
    state = (answer or {}).get("state")
    st.toast(
        "It failed again: the new reason is shown." if action == "retry" and state in ("open", "held") else "Done.",
        icon=":material/check:",
    )
    st.rerun()


def payload_text(letter: dict[str, Any]) -> str:
    """The bytes as they came, indented if they are JSON."""
    payload = letter.get("payload")
    if payload is None and letter.get("payload_base64"):
        payload = base64.b64decode(letter["payload_base64"]).decode("utf-8", "replace")
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except ValueError:
            return payload
    return json.dumps(payload, indent=2, ensure_ascii=False)
