"""The documentation site, `sphinx-build -W docs docs/_build`. The pages of docs/reference are made from the code."""

import runpy
from pathlib import Path

from sslx import __version__ as release

HERE = Path(__file__).parent

project = "sslx"
author = "the sslx authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"sslx {release}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

folder = HERE / "reference"
folder.mkdir(exist_ok=True)
for name, text in runpy.run_path(str(HERE / "generate.py"))["reference"]().items():
    page = folder / name
    if not page.exists() or page.read_text(encoding="utf-8") != text:  # Sphinx reads again what is newer
        page.write_text(text, encoding="utf-8")
