"""Docstrings, help texts, errors and pages are plain standard English, in one spelling."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sslx

PACKAGE = Path(sslx.__file__).parent
ROOT = Path(__file__).parents[2]
#: British spelling with -ize; names of options and components keep theirs.
SPELLING = r"\b(?:normalis|optimis(?!t|m)|standardis|initialis|regularis|generalis|minimis|maximis|organis|recognis)\w*|\bbehavior|\bneighboring"
#: "is no function of" instead of "is not a function of".
CLIPPED = r"(?<!there )\b(?:is|are) no (?!longer\b|more\b|other\b)\w+"


def texts() -> Iterator[tuple[str, str]]:
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.txt"), *ROOT.glob("*.md")]:
        yield str(path), path.read_text()
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "docs" / "methods.toml"]:
        if not {"_build", "results"} & set(path.parts):
            yield str(path), path.read_text()


@pytest.mark.parametrize("pattern", [SPELLING, CLIPPED])
def test_words_are_those_of_standard_english(pattern: str) -> None:
    found = [(name, match[0]) for name, text in texts() for match in re.finditer(pattern, text, re.IGNORECASE)]
    assert found == []


def test_every_folder_says_its_job_in_one_sentence() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        first = path.read_text().partition("\n\n")[0].strip()
        assert first.startswith('"""') and first.rstrip('"').endswith("."), path
