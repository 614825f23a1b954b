"""A workspace's documents and names with an attack in every text that they take, and events of the same.

For `tests/e2e/test_scripts_in_texts.py`, which enters them as people and senders would.
"""

from datetime import UTC, datetime
from typing import Any

from tests.support.attacks import SCRIPTS

SCRIPT, IMAGE, SVG, FRAME, LINK, TEMPLATE = SCRIPTS
SHORT = "<b data-xss>"
BROWSER = f"Browser {IMAGE}"

PIPELINE = {
    "kind": "Pipeline",
    "name": "attacked",
    "title": f"Title {IMAGE}",
    "description": f"Words {SCRIPT} {FRAME} {LINK}",
    "event": {"id": "id", "time": "at"},
    "fields": [
        {
            "name": "shop",
            "type": "string",
            "role": "dimension",
            "title": SVG,
            "description": f"{IMAGE} {TEMPLATE}",
        },
        {"name": "note", "type": "string", "title": FRAME[:80], "description": SCRIPT},
        {"name": "amount", "type": "number", "role": "measure", "unit": SHORT, "title": IMAGE},
        {"name": "must", "type": "integer", "required": True},
    ],
}
COUNT: dict[str, Any] = {"pipeline": "attacked", "measures": [{"agg": "sum", "field": "amount"}]}
DASHBOARD = {
    "kind": "Dashboard",
    "name": "attacked-board",
    "title": f"Board {IMAGE}",
    "description": f"About {SCRIPT} {LINK}",
    "time": {"last": "7d"},
    "widgets": [
        {
            "id": "stat", "type": "stat", "title": SVG, "description": IMAGE, "query": COUNT,
            "chart": {"unit": SHORT},
        },
        {
            "id": "line", "type": "line", "title": IMAGE,
            "query": {**COUNT, "dimensions": ["shop"], "grain": "1h"},
            "chart": {"series": "shop", "x_title": SVG, "y_title": IMAGE},
        },
        {"id": "bar", "type": "bar", "title": SCRIPT, "query": {**COUNT, "dimensions": ["shop"]}},
        {
            "id": "rows", "type": "table", "title": FRAME[:120],
            "query": {"pipeline": "attacked", "rows": ["shop", "note"]},
            "chart": {"columns": [{"name": "note", "title": IMAGE, "unit": SHORT}]},
        },
        {"id": "words", "type": "text", "title": LINK[:120], "text": "\n\n".join(["# Words", *SCRIPTS])},
    ],
}  # fmt: skip
RULE = {
    "kind": "Rule",
    "name": "attacked-rule",
    "pipeline": "attacked",
    "except": ["owner"],
    "rows": f"note != '{IMAGE.replace(chr(39), chr(39) * 2)}'",
}
# What an administrator names: paths and bodies, each with an attack in every text that it takes.
NAMED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/roles", {"name": f"Role {IMAGE}", "description": SCRIPT, "permissions": ["data:read"]}),
    ("/v1/teams", {"name": f"Team {IMAGE}", "description": SVG, "attributes": {"region": [SCRIPT]}}),
    ("/v1/service-accounts", {"name": f"Account {IMAGE}", "description": SVG, "roles": ["viewer"]}),
    ("/v1/dashboards/attacked-board/links", {"name": f"Link {IMAGE}"}),
)


def events() -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    good = [
        {
            "id": f"{n} {text}",
            "at": now,
            "shop": text,
            "note": f"{text} {SCRIPTS[n - 1]}",
            "amount": n,
            "must": 1,
        }
        for n, text in enumerate(SCRIPTS)
    ]
    return [*good, {"id": f"dead {IMAGE}", "at": now, "shop": SCRIPT, "must": f"{IMAGE} {SVG}"}]
