"""An HTML page of sections, in one file that loads nothing else.

Texts come from files and plugins and are not trusted: the templates escape all of them, and the page allows no script
but its own.
"""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from sslx.core.files import replace
from sslx.outputs.formats import cells
from sslx.outputs.rows import Table

LIMIT = 5_000_000  # bytes of a page
_SPARE = 300_000  # of these, for the style, the script, and what stands in the place of blocks that are left out
_PICTURE = 300_000  # bytes of a picture, which is made smaller if it has more
_SIDES = (1024, 768, 512, 384, 256, 128)  # pixels, to which the longer side of such a picture is reduced
_FLOOR = re.compile(r"(untrained encoder|pixels|pca)( of .*)?")
_NUMBER = re.compile(r"([-+]?(\d[\d,]*\.?\d*(e[-+]?\d+)?|nan|inf)( ± .*)?( \(n=\d+\))?|-)?")
_VERDICT = re.compile(r" (?:is|are) (?:hardly |not )?above ")
_TITLE = re.compile(r"<title>.*?</title>", re.DOTALL)
_ABOVE = re.compile(r"(hardly |not )?above ")


class Block(Protocol):
    """A part of a section. The template `blocks.html.j2` has a macro with the name of its kind."""

    kind: str


def embedded(image: str | bytes, most: int = _PICTURE) -> str:
    """A PNG as an address that holds it, as a smaller JPEG if it has too many bytes. An <svg> loses its own title,
    which would cover it when it is pointed at, because the page names it.

    Raises OSError if the bytes are not a PNG.
    """
    if isinstance(image, str):
        return _TITLE.sub("", image, count=1).replace(' role="img"', ' aria-hidden="true"', 1)
    with Image.open(io.BytesIO(image), formats=["PNG"]) as picture:
        kind, sides, smaller = "png", iter(_SIDES), picture.convert("RGB")
        while len(image) > most and (side := next(sides, None)):
            smaller.thumbnail((side, side))
            smaller.save(file := io.BytesIO(), format="jpeg", quality=85)
            kind, image = "jpeg", file.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@attrs.frozen
class Figure:
    """A picture: the text of an <svg> that uses `currentColor`, or the bytes of a PNG.

    Attributes:
        alt: what the picture shows, for readers who cannot see it.
        csv: address of a file with its numbers, relative to the page.
        small: whether it stands beside other small pictures.
    """

    kind = "figure"
    image: str = attrs.field(converter=embedded)
    alt: str
    caption: str = ""
    csv: str = ""
    small: bool = False


@attrs.frozen
class Link:
    """A text that leads to another page, at an address that is relative to this one."""

    text: str
    href: str

    def __str__(self) -> str:
        return self.text


@attrs.frozen
class Rows:
    """A table that a click on a head sorts. Columns of numbers are aligned to the right.

    Attributes:
        floors: positions of the rows that the others are compared with.
    """

    kind = "rows"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]
    floors: Sequence[int] = ()

    @property
    def numeric(self) -> list[bool]:
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.head)
        return [all(_NUMBER.fullmatch(str(cell)) for cell in column) for column in columns]


@attrs.frozen
class Facts:
    """Names with values."""

    kind = "facts"
    facts: Mapping[str, Any]


@attrs.frozen
class Code:
    """A text with its own line breaks."""

    kind = "code"
    text: str


@attrs.frozen
class Notes:
    """Lines of small print, shown after a click."""

    kind = "notes"
    title: str
    lines: Sequence[str]


@attrs.frozen
class Verdicts:
    """Lines that say whether a score is above its floors, as tables have them."""

    kind = "verdicts"
    lines: Sequence[str]

    @property
    def marked(self) -> list[tuple[str, str]]:
        """Each line after `above` all floors, above `some` of them, or `none`, as also if training has not helped."""
        found = []
        for line in self.lines:
            is_above = [not word for word in _ABOVE.findall(line)]
            improved = any(is_above) and "; training has not improved" not in line
            found.append(("above" if all(is_above) else "some" if improved else "none", line))
        return found


@attrs.frozen
class Section:
    """A part of a page: paragraphs as text, tables as `tables` returns them, figures and other blocks."""

    title: str
    blocks: Sequence[str | Table | Block]
    folded: bool = False  # whether it is shown after a click


def page(
    title: str,
    sections: Sequence[Section],
    path: Path,
    lead: str = "",
    numbers: Mapping[str, str] = {},
    state: str = "",
) -> None:
    """Write a page of at most 5 MB. Large pictures are made smaller, and what still does not fit is left out.

    Args:
        lead: what the page is about, in a sentence or two.
        numbers: a few values that stand out at the top, by their names.
        state: what is not finished yet, if anything is not.
    """
    shown, left = list[tuple[Section, list[Markup]]](), LIMIT - _SPARE
    for section in sections:
        parts = list[Markup]()
        for block in section.blocks:
            for each in blocks_of(block) if isinstance(block, Table) else [block]:
                part = _html(each)
                if (size := len(part.encode())) > left:
                    part = _html("The page would be too large with the next part, which is left out.")
                    size = 0
                parts.append(part)
                left -= size
        if parts:
            shown.append((section, parts))
    style, script = (_TEMPLATES.get_source(_ENVIRONMENT, name)[0] for name in ("page.css", "page.js"))
    text = _ENVIRONMENT.get_template("page.html.j2").render(
        title=title,
        lead=lead,
        numbers=numbers,
        state=state,
        sections=shown,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    replace(path, text)


def blocks_of(table: Table, turned: bool = False) -> list[str | Block]:
    """A table of scores, a line if they are of representations of different widths, its verdicts, and its other notes.

    Args:
        turned: whether the scores are rows, as suits a table of one run.
    """
    grid = cells(table)
    floors = [place for place, row in enumerate(table.rows) if _FLOOR.fullmatch(row.name)]
    head, *rows = [list(column) for column in zip(*grid, strict=True)] if turned else grid
    if turned:
        head, floors = ["score", *head[1:]], []
    verdicts = [note for note in table.notes if not note.startswith("note: ") and _VERDICT.search(note)]
    notes = [note for note in table.notes if note not in verdicts]
    found: list[str | Block] = [Rows(f"Representations of {table.dataset}", head, rows, floors)]
    found += [f"{note[6:7].upper()}{note[7:]}." for note in notes if "differ in width" in note]
    found += [Verdicts(verdicts)] if verdicts else []
    return found + ([Notes("How the scores were computed", notes)] if notes else [])


def _html(block: str | Block) -> Markup:
    macros = _ENVIRONMENT.get_template("blocks.html.j2").module
    return getattr(macros, "paragraph" if isinstance(block, str) else block.kind)(block)


_TEMPLATES = PackageLoader("sslx.outputs.report")
_ENVIRONMENT = Environment(
    loader=_TEMPLATES,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
