"""The documentation site, `sphinx-build -W docs docs/_build`. Pages of docs/reference are made from the code."""

import re
import runpy
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import ziamath
from docutils.nodes import SkipNode
from ipython_pygments_lexers import IPythonLexer

from sslx import __version__ as release

HERE = Path(__file__).parent

project = "sslx"
author = project_copyright = "the sslx authors"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design"]
exclude_patterns = ["_build", "generator", "**.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"sslx {release}"
html_static_path = ["static"]
html_css_files = ["sslx.css"]
html_theme_options = {"top_of_page_buttons": []}
html_math_renderer = "svg"  # which needs no script and no network
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


@cache
def drawn(latex: str, inline: bool) -> str:
    """An equation as an element with an <svg>, whose size and colour are those of the text around it."""
    known = re.sub(r"(\\operatorname\{\w+\}) (?=[\w\\])", r"\1\\, ", latex.replace("{aligned}", "{align*}"))
    picture = ziamath.Latex(known, size=17, inline=inline, color="currentColor")  # where the text has 16 pixels
    svg = re.sub(r'(width|height)="([\d.]+)"', lambda m: f'{m[1]}="{float(m[2]) / 16:.3f}em"', picture.svg(), count=2)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(latex)}" ', 1)
    tag, place = ("span", f' style="vertical-align: {picture.getyofst() / 16:.3f}em"') if inline else ("div", "")
    return f'<{tag} class="math"{place}>{svg}</{tag}>'


def inline_equation(page: Any, node: Any) -> None:
    page.body.append(drawn(node.astext(), inline=True))
    raise SkipNode


def equation(page: Any, node: Any) -> None:
    page.body.append(drawn(node.astext(), inline=False))
    raise SkipNode


def setup(app: Any) -> None:
    app.add_lexer("python", IPythonLexer)  # cells of notebooks have lines that begin with `!` or `%`
    app.add_html_math_renderer("svg", (inline_equation, None), (equation, None))
