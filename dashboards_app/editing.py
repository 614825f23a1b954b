"""The one dialog in which something is made or changed, and the fields that several things have.

Belongs here: what the dialogs of teams, roles, service accounts, members and providers share. Not here: which
fields each of them has (its page).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from dashboards_app import parts, ui
from dashboards_app.client import Problem, client

Found = Mapping[str, Any]


def edit(
    what: str,
    address: str,
    fields: Callable[[Found], dict[str, Any]],
    found: Found | None = None,
    *,
    name: str = "slug",
    change: Literal["patch", "put"] = "patch",
    width: Literal["small", "large"] = "small",
) -> None:
    """A dialog that makes a thing, or changes `found`.

    `fields` draws the form for what is there (nothing yet: empty) and returns what is wanted, as the API
    takes it; a `Problem` that it raises once all is drawn is shown. `address`: the list of such things;
    `name`: which of a thing's values is its place below that.
    """

    @st.dialog(f"Change {what}" if found else f"New {what}", width=width)
    def show() -> None:
        body: dict[str, Any] = {}
        wrong: Problem | None = None
        with st.form(f"edit-{what}", border=False):
            try:
                body = fields(found or {})
            except Problem as problem:
                wrong = problem
            sent = st.form_submit_button("Save", type="primary")
        if wrong is not None:
            ui.problem(wrong)
        elif sent and parts.done(lambda: _send(body), "Saved." if found else f"The {what} is there."):
            st.rerun()

    def _send(body: dict[str, Any]) -> Any:
        if found is None:
            return client().post(address, body)
        return getattr(client(), change)(f"{address}/{found[name]}", body)

    show()


def named(found: Found, about: str, longest: int) -> dict[str, Any]:
    """Name and description; `about`: what the description says, `longest`: how long a name may be."""
    name = st.text_input("Name", found.get("name", ""), max_chars=longest)
    description = st.text_input(about, found.get("description", ""), max_chars=500)
    return {"name": name.strip(), "description": description.strip()}


def roles(label: str, held: Sequence[str]) -> list[str]:
    """Any of the workspace's roles."""
    known = list(dict.fromkeys([*role_slugs(), *held]))
    return st.multiselect(label, known, default=list(held), placeholder="None")


def role_slugs() -> list[str]:
    return [role["slug"] for role in client().items("/v1/roles")]


def teams(held: Sequence[str]) -> list[str]:
    """Any of the workspace's teams, by slug."""
    known = {team["slug"]: team["name"] for team in client().items("/v1/teams")}
    return st.multiselect(
        "Teams", list(known), default=[slug for slug in held if slug in known],
        format_func=known.__getitem__, placeholder="None",
    )  # fmt: skip


def attributes(label: str, held: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What row rules compare with, as lines of text."""
    text = st.text_area(
        label, attributes_text(held), placeholder="region: emea, apac",
        help="Row rules compare with these: a name a line, its values with commas.",
    )  # fmt: skip
    return attributes_of(text)


def attributes_text(held: Mapping[str, Sequence[str]]) -> str:
    """Attributes as people write them: a line each, `region: emea, apac`."""
    return "\n".join(f"{name}: {', '.join(values)}" for name, values in held.items())


def attributes_of(text: str) -> dict[str, list[str]]:
    """What `attributes_text` made; a line without a colon is a name without values."""
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, values = line.partition(":")
        found[name.strip()] = listed(values)
    return found


def listed(text: str) -> list[str]:
    """Values with commas between them."""
    return [value.strip() for value in text.split(",") if value.strip()]


def attributes_told(held: Mapping[str, Sequence[str]]) -> list[str]:
    """Attributes in a row's words."""
    return [f"{name} = {', '.join(values)}" for name, values in held.items()]
