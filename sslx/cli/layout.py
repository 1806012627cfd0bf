"""Layout of text in the terminal."""

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence

import click

from sslx.core.console import printable


def screen() -> int:
    """The width of the terminal in characters; 120 if the output goes elsewhere."""
    return shutil.get_terminal_size((120, 24)).columns


def echo(*lines: object, err: bool = False) -> None:
    """Print lines, in which names of files and texts of plugins may have line breaks and escape sequences."""
    for line in lines:
        click.echo(printable(str(line)), err=err)


def columns(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Rows of cells as lines, in columns of equal width. Text in the last column is wrapped to the terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    left = indent + sum(width + 2 for width in widths)
    for *cells, last in rows:
        start = " " * indent + "".join(f"{cell:{width}}  " for cell, width in zip(cells, widths, strict=True))
        yield from filled(last, start, left) or [start.rstrip()]


def filled(text: str, start: str, left: int) -> list[str]:
    """A paragraph wrapped to the terminal, after `start` in its first line and `left` spaces in all others."""
    return textwrap.wrap(
        text,
        max(screen(), left + 20),
        initial_indent=start,
        subsequent_indent=" " * left,
        break_long_words=False,
        break_on_hyphens=False,
    )


def prose(doc: str, indent: int = 2) -> Iterator[str]:
    """A docstring, wrapped to the terminal. Formulas, which are indented, keep their lines."""
    items: list[tuple[int, str]] = []  # depth and text of paragraphs, formulas and entries of lists
    for line in inspect.cleandoc(doc).splitlines():
        depth, text = len(line) - len(line.lstrip()), line.strip()
        above, before = items[-1] if items else (0, "")
        is_listed = above > 0 or before.startswith("- ")
        if text and before and (depth > above if is_listed else depth == 0 and not text.startswith("- ")):
            items[-1] = above, f"{before} {text}"
        else:
            items.append((depth, text))
    for depth, text in items:
        hanging = 4 if depth else 2 if text.startswith("- ") else 0
        yield from filled(text, " " * (indent + depth), indent + depth + hanging) or [""]
