"""The Streamlit application as the web process mounts it, behind its sign-in."""

from pathlib import Path

import streamlit as st

MAIN = Path(__file__).parent / "entry" / "main.py"
# Where the pages are: what `entry/main.py` has, which only Streamlit can import. Anything else is not there.
ADDRESSES = frozenset(
    {
        "", "dashboards", "dashboard", "pipelines", "pipeline", "dead-letters", "quality", "health",
        "members", "rules", "keys", "audit", "usage", "settings",
    }
)  # fmt: skip


def make_pages(api_url: str) -> st.App:
    """The pages, reading data from `api_url` (the web process itself) with each visitor's own session."""
    return st.App(MAIN, secrets={"sluiceway": {"api_url": api_url.rstrip("/")}})
