"""Writes docs/methods/: a page for each built-in method and family, from the code and from what was measured.

It also writes the table of recipes in docs/howto/studies.md.

python docs/generate.py

The site has a reference, too, which `reference` makes of docstrings and options whenever it is built. The work is done
in docs/generator.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from generator.methods import pages  # noqa: E402
from generator.recipes import with_table  # noqa: E402
from generator.reference import reference  # noqa: E402

__all__ = ["pages", "reference", "with_table"]


def main() -> None:
    folder = HERE / "methods"
    for old in folder.rglob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    studies = HERE / "howto" / "studies.md"
    studies.write_text(with_table(studies.read_text()))


if __name__ == "__main__":
    main()
