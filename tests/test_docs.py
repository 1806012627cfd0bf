"""The pages that are generated say what the code says."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_pages_of_methods_are_those_that_the_code_makes() -> None:
    pages = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
    written = {path.name: path.read_text() for path in (DOCS / "methods").glob("*.md")}
    assert written == pages, "run `python docs/generate.py`"
