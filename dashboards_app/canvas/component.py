"""The canvas as a Streamlit component: registered from its own manifest, mounted with a slug and a theme.

It fetches its spec and data itself; what is passed in is only where to look.
"""

import json
import tomllib
from typing import Any

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

from dashboards_app.canvas import ASSETS_URL, DIST, FOLDER

MANIFEST = FOLDER / "manifest.toml"


class NotBuilt(Exception):
    """The bundles are missing."""


def assets() -> dict[str, str]:
    """Names of the built files by their role. Raises `NotBuilt`."""
    try:
        found: dict[str, str] = json.loads((DIST / "assets.json").read_text())
    except (OSError, ValueError):
        raise NotBuilt("The canvas is not built: run 'python -m dashboards_app.canvas.build'.") from None
    return found


def asset_url(role: str) -> str:
    return f"{ASSETS_URL}/{assets()[role]}"


def _manifest() -> ComponentManifest:
    # Streamlit scans installed distributions for manifests in their top folder; this one lies in the package.
    found = tomllib.loads(MANIFEST.read_text())
    components = [ComponentConfig.from_dict(c) for c in found["components"]]
    return ComponentManifest(name=found["name"], version=found["version"], components=components)


@st.cache_resource(show_spinner=False)
def _component(index: str) -> Any:
    manifest = _manifest()
    get_bidi_component_manager().register_from_manifest(manifest, FOLDER)
    return st.components.v2.component(f"{manifest.name}.{manifest.components[0].name}", js=index)


def canvas(slug: str, view: str = "") -> None:
    """Show the dashboard `slug` here, as the role in `view` sees it if one is given. Raises `NotBuilt`."""
    theme = st.context.theme.type or "light"
    data = {"slug": slug, "theme": theme, "view": view}
    _component(assets()["index"])(key=f"canvas-{slug}", data=data, height="content")
