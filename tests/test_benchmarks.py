"""The benchmark of one card works on a machine without one, where it measures nothing."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest


def test_the_benchmark_of_a_card_runs_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    out = tmp_path / "device.md"
    monkeypatch.setattr(sys, "argv", ["device.py", "--small", "--device", "cpu", "--out", str(out)])
    runpy.run_path(str(folder / "device.py"), run_name="__main__")
    written = out.read_text()
    assert "nothing here is a measurement" in written and "failed" not in written
    assert written.count("| SimCLR, CNN, batch 8 |") == written.count("| SimVAE, batch 4 |") == 1
