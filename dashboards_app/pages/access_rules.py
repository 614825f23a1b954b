"""Row rules and column masks: who sees which rows and columns of a pipeline or mart."""

from typing import Any

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import client

_EXAMPLE = """\
kind: Rule
name: regions
pipeline: nyc-flights
roles: [viewer]
rows: origin in user.airports
masks:
  - {field: tailnum, as: hash}
"""


def show() -> None:
    """Every rule in words; as YAML for whoever may change it."""
    manages = "rule:manage" in parts.permissions()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ui.heading(
            "Access rules", "Which rows people see, and which columns are hidden or masked.", narrow=True
        )
        if manages and st.button("New rule", icon=":material/add:", type="primary"):
            _edit(None)
    if not parts.each("/v1/rules", lambda rule: _row(rule, manages)):
        ui.nothing(
            "No rules yet",
            "Whoever may read a pipeline sees all of it. A rule hides rows or columns by role.",
        )


def _row(rule: dict[str, Any], manages: bool) -> None:
    where = rule["pipeline"] or rule["model"]
    whom = ", ".join(rule["roles"]) or "everyone"
    but = f" but {', '.join(rule['except'])}" if rule["except"] else ""
    masks = [f"{mask['field']}: {mask['as']}" for mask in rule["masks"]]
    rows = f"sees rows with {rule['rows']}" if rule["rows"] else "sees every row"
    about = [f"{whom}{but} {rows}", *masks, rule["description"]]
    badges = f"{ui.tag(where)} {ui.tag('version ' + str(rule['version']))}"
    row = parts.entry(f"rule-{rule['name']}", rule["name"], badges, about)
    if row.button("Change" if manages else "Look", key=f"change-{rule['name']}", type="tertiary"):
        _edit(rule)
    if manages and row.button("Delete", key=f"delete-{rule['name']}", type="tertiary"):
        parts.ask(
            "Delete rule",
            f"What **{ui.plain(rule['name'])}** kept from view is seen at once.",
            "Delete",
            lambda: client().delete(f"/v1/rules/{rule['name']}"),
            "The rule holds no more.",
        )


@st.dialog("Rule", width="large")
def _edit(rule: dict[str, Any] | None) -> None:
    manages = "rule:manage" in parts.permissions()
    text = _EXAMPLE if rule is None else client().text(f"/v1/rules/{rule['name']}/export")
    source = st.text_area(
        "YAML", text, height=320, disabled=not manages, key=f"rule-{(rule or {}).get('name')}"
    )
    if not manages:
        return
    st.caption("Holds from the moment it is applied: in queries, dashboards, streams, links and caches.")
    if st.button("Apply", type="primary"):
        name = next(
            (line.partition(":")[2].strip() for line in source.splitlines() if line.startswith("name:")), ""
        )
        if parts.done(lambda: client().put_text(f"/v1/rules/{name or 'unnamed'}", source), "The rule holds."):
            st.rerun()
