"""Fills the blocks of README.md, docs/index.md and docs/start/quickstart.md that a program makes: python docs/readme.py

One is the output of the first command, which is run, and which makes a picture for the quick start; the other is made
of the tables in docs/results.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = "sslx run --plugin simvae"
PICTURE = ROOT / "docs" / "pictures" / "reconstructions-digits.png"
SHOWN = [  # study, block, column, what it is called here, rows
    ("gedi-table-2", "moons", "NMI test", "moons, NMI of clusters", ("GEDI", "JEM")),
    ("gedi-table-2", "circles", "NMI test", "circles, NMI of clusters", ("GEDI",)),
    (
        "simvae-iclr-table-1",
        "FashionMNIST",
        "kNN accuracy % (best k)",
        "Fashion-MNIST, kNN %",
        ("SimVAE", "VAE", "CR-VAE"),
    ),
]


def output() -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-m", *COMMAND.split()], cwd=folder, capture_output=True, text=True)
        shutil.copy(Path(folder, "runs", "digits-simvae-1", "reconstructions.png"), PICTURE)
    return f"```text\n{done.stdout}```"


def without_time(printed: str) -> str:
    """The output without its last line, which has the name of the run."""
    return re.sub(r"\n[^\n]*: trained [^\n]*(?=\n```)", "", printed)


def results(here: str = "docs/results") -> str:
    """The table of results in a page from which `here` leads to their pages."""
    lines = ["| data, score | method | here | in the paper | pixels | principal components |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for study, block, column, name, rows in SHOWN:
        with (ROOT / "docs" / "results" / study / "table.csv").open(encoding="utf-8") as file:
            table = [each for each in csv.DictReader(file) if (each["block"], each["column"]) == (block, column)]
        cells, digits = {each["row"]: each for each in table}, 2 if "NMI" in column else 1
        for row in rows:
            ours = number(cells[row], "ours", "spread", digits)
            paper = number(cells[row], "paper", "paper spread", digits)
            floors = [number(cells[floor], "ours", "", digits) if floor in cells else "" for floor in ("pixels", "pca")]
            method = f"[{row}]({here}/{study}/index.md)"
            lines.append(f"| {name} | {method} | {ours} | {paper} | {' | '.join(floors)} |")
    return "\n".join(lines)


def number(cell: dict[str, str], value: str, error: str, digits: int) -> str:
    text = f"{float(cell[value]):.{digits}f}" if cell[value] else "-"
    return f"{text} ± {float(cell[error]):.{digits}f}" if cell.get(error) else text


def filled(text: str, block: str, content: str) -> str:
    """The page with new content between the comment that names a block and the end of the block."""
    return re.sub(
        rf"(<!-- {block} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL
    )


def main() -> None:
    path = ROOT / "README.md"
    text = filled(path.read_text(encoding="utf-8"), "results of docs/results", results())
    printed = output()
    path.write_text(filled(text, f"output of {COMMAND}", printed), encoding="utf-8")
    quick = ROOT / "docs" / "start" / "quickstart.md"
    text = filled(quick.read_text(encoding="utf-8"), f"output of {COMMAND}", without_time(printed))
    quick.write_text(text, encoding="utf-8")
    start = ROOT / "docs" / "index.md"
    text = filled(start.read_text(encoding="utf-8"), "results of docs/results", results("results"))
    start.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
