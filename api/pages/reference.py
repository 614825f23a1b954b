"""The API's reference as one HTML page, made from the OpenAPI document: no script, nothing from elsewhere."""

import json
import re
from html import escape
from typing import Any

from api.openapi import operations
from api.pages import shell

_CODE = re.compile(r"`([^`]+)`")


def render(document: dict[str, Any]) -> str:
    """The whole page."""
    groups: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    for path, method, operation in operations(document):
        html = _operation(document, path, method, operation)
        groups.setdefault((operation.get("tags") or ["other"])[0], []).append(html)
    about = {tag["name"]: tag["description"] for tag in document["tags"]}
    shown = {name: parts for name, parts in groups.items() if parts}
    contents = "".join(f'<li><a href="#{_anchor(n)}">{escape(n.capitalize())}</a></li>' for n in shown)
    sections = "".join(
        f'<section><h2 id="{_anchor(name)}">{escape(name.capitalize())}</h2>'
        f'<p class="lead">{_prose(about.get(name, ""))}</p>{"".join(parts)}</section>'
        for name, parts in shown.items()
    )
    body = (
        '<div class="wrap"><header>'
        f'<p class="brand"><img src="/assets/mark.svg?v={shell.version()}" alt="" width="28" height="28">'
        "Sluiceway</p>"
        f'<h1>API reference</h1><p class="lead">{_prose(document["info"]["description"])} '
        '<a href="/openapi.json">OpenAPI document</a>.</p>'
        f'<nav aria-label="Contents"><ul class="contents">{contents}</ul></nav></header>'
        f"<main>{sections}</main></div>"
    )
    return shell.document("API reference", "reference", body)


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    asks = "" if operation.get("security") else "<p>Needs no sign-in.</p>"
    return (
        f'<details class="operation" id="{escape(operation["operationId"])}"><summary>'
        f'<span class="method">{method.upper()}</span><code class="path">{escape(path)}</code>'
        f'<span class="what">{escape(operation.get("summary", ""))}</span></summary>'
        f'<div class="inside"><p>{_prose(operation.get("description", ""))}</p>{asks}'
        f"{_parameters(operation)}{_body(document, operation)}{_responses(document, operation)}"
        "</div></details>"
    )


def _parameters(operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{escape(p['in'])}"
        f"{', required' if p.get('required') else ''}</td><td>{escape(_type(p.get('schema', {})))}</td>"
        f"<td>{_prose(p.get('description', ''))}</td></tr>"
        for p in operation.get("parameters", ())
    )
    return f'<h3>Parameters</h3><div class="scroll"><table>{rows}</table></div>' if rows else ""


def _body(document: dict[str, Any], operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {})
    parts = []
    for media, entry in content.items():
        parts.append(f"<h3>Body: {escape(media)}</h3>{_fields(document, entry.get('schema', {}))}")
        example = entry.get("example", _resolve(document, entry.get("schema", {})).get("example"))
        if example is not None:
            parts.append(f"<pre>{escape(json.dumps(example, indent=2))}</pre>")
    return "".join(parts)


def _responses(document: dict[str, Any], operation: dict[str, Any]) -> str:
    rows, fields = "", ""
    for status, response in sorted(operation["responses"].items()):
        media = ", ".join(response.get("content", {})) or "no body"
        rows += (
            f"<tr><td><code>{status}</code></td><td>{escape(response.get('description', ''))}</td>"
            f"<td>{escape(media)}</td></tr>"
        )
        schema = response.get("content", {}).get("application/json", {}).get("schema")
        if schema and status.startswith("2"):
            fields = fields or _fields(document, schema)
    return f'<h3>Answers</h3><div class="scroll"><table>{rows}</table></div>{fields}'


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> str:
    found = _resolve(document, schema)
    required = found.get("required", ())
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(_type(value))}"
        f"{', required' if name in required else ''}</td><td>{_prose(value.get('description', ''))}</td></tr>"
        for name, value in found.get("properties", {}).items()
    )
    return f'<div class="scroll"><table>{rows}</table></div>' if rows else ""


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(_type(s) for s in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(str(v) for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    kind = schema.get("format") or schema.get("type") or "any"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _anchor(name: str) -> str:
    return name.replace(" ", "-")
