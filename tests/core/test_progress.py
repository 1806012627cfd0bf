"""The line of progress on a terminal."""

from __future__ import annotations

import io
import re

import pytest

from sslx.core.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_line_of_progress_fits_the_terminal_and_keeps_rate_and_time(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    terms = dict.fromkeys(("loss", "reconstruction", "entropy", "invariance", "prior", "generative"), 1234.5)
    with Progress(total=10, step=0, epochs=2) as progress:
        for step in range(1, 6):
            progress.advance(step, 100, terms)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue()))
    last = [line for line in lines if "views/s" in line][-1]
    assert all(len(line) <= width for line in lines)
    assert last.startswith("epoch 1/2") and re.search(r"\d views/s  \d+ s left +loss 12", last), last
