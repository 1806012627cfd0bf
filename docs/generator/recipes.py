"""The table of recipes in docs/howto/studies.md, from the files of the recipes."""

import re

from sslx.core.options import make
from sslx.core.study import Study
from sslx.studies import RECIPES


def table() -> str:
    lines = ["| recipe | what | published | source |", "|---|---|---|---|"]
    for name, *_ in RECIPES:
        design = make(Study, name, "study").design()
        (block,), (row,) = design.blocks, design.rows
        cells = []
        for column, value in zip(design.columns, block.printed[row.name], strict=True):
            if value is not None:
                spread = f" ± {value.spread:.{column.digits}f}" if value.spread == value.spread else ""
                cells.append(f"{column.name} {value.centre:.{column.digits}f}{spread}")
        lines.append(f"| `{name}` | {design.title} | {', '.join(cells) or '-'} | {design.paper} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """A page with the table between the comment that names it and the end."""
    return re.sub(r"(<!-- recipes -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{table()}\n\n{m[2]}", page, flags=re.S)
