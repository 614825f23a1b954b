"""The browser component that draws a dashboard, and its build.

`src/` is the JavaScript, `dist/` what `python -m dashboards_app.canvas.build` makes of it (not committed).
"""

from pathlib import Path

FOLDER = Path(__file__).parent
DIST = FOLDER / "dist"
ASSETS_URL = "/assets/canvas"
"""Where the web process serves `dist/` from: every name there holds a hash of its bytes."""
