"""Events that could not become rows: why, what they held, and what to do with them."""

import json
from html import escape
from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client

STATES = {"open": "Open", "held": "Held", "retried": "Retried", "discarded": "Discarded"}
_TONES = {"open": "warning", "held": "critical", "retried": "good", "discarded": "neutral"}
WAITING = ("open", "held")
PAGE = 20


def show() -> None:
    """Dead letters by pipeline and state, newest first, with correct, retry and discard."""
    ui.heading(
        "Dead letters",
        "Events that could not become rows. Nothing is lost: correct the event or the pipeline, and retry.",
    )
    pipelines = {p["slug"]: p["title"] for p in client().items("/v1/pipelines", limit=200)}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        slug = st.selectbox(
            "Pipeline",
            [None, *pipelines],
            format_func=lambda s: pipelines.get(s, "All pipelines"),
            key="letters-pipeline",
            width=280,
        )
        state = st.segmented_control(
            "State", list(STATES), format_func=STATES.__getitem__, default="open", key="letters-state"
        )
    _counts(slug, state)
    found = client().get(
        "/v1/dead-letters", pipeline=slug, state=state, limit=PAGE, cursor=_cursor(slug, state)
    )
    letters = found["items"]
    if not letters:
        ui.nothing("No dead letters here", "Every event of this choice became a row.")
        return
    resolves = "dead_letter:resolve" in parts.permissions()
    if resolves:
        _all_at_once(letters)
    for letter in letters:
        _letter(letter, resolves)
    if found.get("next_cursor") and st.button("Older", icon=":material/expand_more:"):
        st.session_state["letters-cursor"] = (slug, state, found["next_cursor"])
        st.rerun()


def _cursor(slug: str | None, state: str | None) -> str | None:
    """Where this list goes on; another choice begins again at the newest."""
    kept = st.session_state.get("letters-cursor")
    return kept[2] if kept and kept[:2] == (slug, state) else None


def _counts(slug: str | None, state: str | None) -> None:
    """The commonest reasons, so that a wave of one kind is seen as one."""
    kinds = client().items("/v1/dead-letters/counts", pipeline=slug, state=state)[:5]
    if kinds:
        st.html(
            ui.facts(
                [((k["expectation"] or k["code"]).replace("_", " "), ui.count(k["count"])) for k in kinds]
            )
        )


def _all_at_once(letters: list[dict[str, Any]]) -> None:
    ids = [letter["id"] for letter in letters if letter["state"] in WAITING]
    if len(ids) < 2:
        return
    if st.button(f"Retry these {len(ids)}", icon=":material/replay:", key="letters-retry-all"):
        try:
            done = client().post("/v1/dead-letters/retry", {"ids": ids})
        except Problem as found:
            st.toast(ui.plain(str(found)), icon=":material/error:")
            return
        loaded = done["loaded"] + done["duplicates"]
        st.toast(f"{loaded} became rows, {done['failed']} failed again.", icon=":material/check:")
        st.rerun()


def _letter(letter: dict[str, Any], resolves: bool) -> None:
    state, reason = letter["state"], letter["reason"]
    failed = f"expectation {letter['expectation']}" if letter["expectation"] else f"{letter['step']} step"
    with st.container(key=f"letter-{letter['id']}", border=True):
        st.html(
            f"<div class='sw-letter'><div>{ui.badge(STATES.get(state, state), _TONES.get(state, 'neutral'))}"
            f"<strong>{escape(letter['pipeline'])}</strong><span>{escape(failed)}</span>"
            f"<time>{ui.clock(letter['received_at'])}</time></div><p>{escape(reason)}</p></div>"
        )
        with st.container(horizontal=True, gap="small"):
            if st.button(
                "Payload", key=f"payload-{letter['id']}", icon=":material/data_object:", type="tertiary"
            ):
                _payload(letter, resolves)
            if resolves and state in WAITING:
                if st.button("Retry", key=f"retry-{letter['id']}", icon=":material/replay:", type="tertiary"):
                    _retry(letter, None)
                if st.button(
                    "Discard", key=f"discard-{letter['id']}", icon=":material/delete:", type="tertiary"
                ):
                    _discard(letter)


@st.dialog("Payload", width="large")
def _payload(letter: dict[str, Any], resolves: bool) -> None:
    """The event as it came; one that waits can be corrected and tried again by whoever may."""
    about = (
        f"{letter['position']}, {ui.size(letter['payload_bytes'])}, event {letter['event_id'] or 'unnamed'}"
    )
    st.caption(ui.plain(about))
    text = indented(letter["payload"])
    if not resolves or letter["payload_truncated"] or letter["state"] not in WAITING:
        st.code(text, language="json", wrap_lines=True, height=420)
        return
    corrected = st.text_area(
        "The event", text, height=380, key=f"correct-{letter['id']}", label_visibility="collapsed"
    )
    if st.button("Retry with this", type="primary", icon=":material/replay:"):
        _retry(letter, corrected if corrected != text else None)


def _retry(letter: dict[str, Any], corrected: str | None) -> None:
    body = {"payload": corrected} if corrected is not None else None
    try:
        with st.spinner("Trying again"):
            answer = client().post(f"/v1/dead-letters/{letter['id']}/retry", body)
    except Problem as found:
        st.toast(ui.plain(str(found)), icon=":material/error:")
        return
    if answer["state"] in WAITING:
        st.toast(f"It failed again: {ui.plain(answer['reason'])}", icon=":material/error:")
    else:
        st.toast("It became a row.", icon=":material/check:")
    st.rerun()


def _discard(letter: dict[str, Any]) -> None:
    try:
        client().post(f"/v1/dead-letters/{letter['id']}/discard")
    except Problem as found:
        st.toast(ui.plain(str(found)), icon=":material/error:")
        return
    st.toast("Discarded; bronze still has it.", icon=":material/check:")
    st.rerun()


def indented(payload: str) -> str:
    """JSON with line breaks; anything else as it is."""
    try:
        return json.dumps(json.loads(payload), indent=2, ensure_ascii=False)
    except ValueError:
        return payload
