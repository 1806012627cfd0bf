"""The documentation site, `sphinx-build -W docs docs/_build`. Pages of docs/reference are made from the code."""

import runpy
from pathlib import Path
from typing import Any

from ipython_pygments_lexers import IPythonLexer

from sslx import __version__ as release

HERE = Path(__file__).parent

project = "sslx"
author = project_copyright = "the sslx authors"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "generator", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"sslx {release}"
html_static_path = ["static"]
html_css_files = ["sslx.css"]
html_theme_options = {"top_of_page_buttons": []}
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are stored with what they printed
nb_merge_streams = True
suppress_warnings = ["misc.highlighting_failure"]  # of shell commands in cells that have a second line

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
copybutton_exclude = ".linenos, .gp, .go"

folder = HERE / "reference"
for name, text in runpy.run_path(str(HERE / "generate.py"))["reference"]().items():
    page = folder / name
    if not page.exists() or page.read_text(encoding="utf-8") != text:  # Sphinx reads again what is newer
        page.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Cells of notebooks have lines that begin with `!` or `%`."""
    app.add_lexer("python", IPythonLexer)
