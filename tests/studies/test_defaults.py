"""The tables of the papers rest on defaults that no study states. None of them changes unnoticed.

`python tests/studies/test_defaults.py` writes `defaults.txt` again; its difference is what tables made before lack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sslx.core.dotted import flatten
from sslx.core.options import to_dict
from sslx.plugins.registry import registry
from sslx.runs.studies import Reproduction

RECORDED = Path(__file__).with_name("defaults.txt")


def defaults() -> Iterator[tuple[str, str]]:
    """A method and an option that it has at the budget `paper` without being given it, as `key = value`."""
    for name in sorted(set(registry().providers("study")) - {"file"}):
        study = Reproduction.of(name, "paper", Path())
        for block, row in study.places():
            if row.gain or study.design.missing(block, row):
                continue
            given = flatten(study.given(block, row))
            for key, value in flatten(to_dict(study.config(block, row))).items():
                if key not in given and key != "method":
                    yield str(given["method"]), f"{key} = {value!r}"


def found() -> dict[str, list[str]]:
    lines: dict[str, set[str]] = {}
    for method, line in defaults():
        lines.setdefault(line, set()).add(method)
    return {line: sorted(methods) for line, methods in sorted(lines.items())}


def test_no_default_of_a_study_has_changed() -> None:
    now = found()
    recorded = [line.split("  # ") for line in RECORDED.read_text().splitlines()]
    lost = {
        line: missing
        for line, methods in recorded
        if (missing := sorted(set(methods.split(", ")) - set(now.get(line, ()))))
    }
    assert not lost


if __name__ == "__main__":
    RECORDED.write_text("".join(f"{line}  # {', '.join(methods)}\n" for line, methods in found().items()))
