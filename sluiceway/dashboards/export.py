"""A dashboard as YAML again, without loss: the text as applied, with the widgets where they are now."""

from io import StringIO
from typing import Any

import yaml

from sluiceway.dashboards.contracts import DashboardSpec, Layout
from sluiceway.dashboards.layouts import place


def to_yaml(spec: DashboardSpec, layout: Layout, source: str) -> str:
    """`source` to the letter if nobody moved a widget; else the same text and comments with new positions.

    Without a source (made by the API): the spec alone, in the order it was given.
    """
    if source:
        return source if layout == place(spec) else _with_layout(source, layout)
    document = spec.document()
    document = {"kind": spec.kind, "name": spec.name, **document}
    for widget in document.get("widgets", []):
        widget["layout"] = layout[widget["id"]].model_dump()
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _with_layout(source: str, layout: Layout) -> str:
    # Imported here: only an export after a move needs it.
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 110
    editor.indent(mapping=2, sequence=4, offset=2)
    document: Any = editor.load(source)
    for widget in document.get("widgets") or []:
        wanted = layout[widget["id"]].model_dump()
        known = widget.get("layout")
        if known is None:
            fresh = CommentedMap(wanted)
            fresh.fa.set_flow_style()
            widget["layout"] = fresh
        else:
            for name, value in wanted.items():
                known[name] = value
    written = StringIO()
    editor.dump(document, written)
    return written.getvalue()
