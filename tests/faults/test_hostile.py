"""Run folders of somebody who means harm: nothing is executed, nothing is written elsewhere, every refusal is a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import hostile


def test_nothing_in_a_run_folder_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cases = list(hostile.cases(tmp_path, quick=True))
    assert len(cases) >= 250
    assert [f"{case.name}: {case.broken}" for case in cases if case.broken] == []


def test_a_module_beside_a_run_is_not_imported_by_python_m_sslx(tmp_path: Path) -> None:
    hostile.make_bases(tmp_path)
    run = tmp_path / "finished"
    (run / "evil.py").write_text(hostile.EVIL.format(canary=str(tmp_path / "canary")))
    hostile.configured(run, "method.prior", "finished.evil:X")
    arguments = [sys.executable, "-m", "sslx", "eval", "finished", "-e", "knn"]
    done = subprocess.run(
        arguments, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "canary").exists()
