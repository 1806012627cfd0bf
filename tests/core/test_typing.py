"""Type checkers understand a component's constructor and the lazy names of the API."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sslx

pytest.importorskip("mypy", reason="mypy comes with the test extra")

SNIPPET = """
from torch import Tensor
from sslx.api import Prior, option, slot, Method

class Mine(Prior):
    variance: float = option(default=0.15, gt=0, help="x")
    name: str = option(help="required")

    def log_prob(self, z: Tensor) -> Tensor:
        return z.sum(dim=(1, 2)) / self.variance

class Model(Method):
    prior: Prior = slot(default="shared-mean")

right = Mine(variance=0.2, name="a")
Model(prior=right)
Model()
reveal_type(right.variance)
Mine(variance="wide", name="a")  # wrong: a type
Mine(varience=0.2, name="a")  # wrong: a name
Mine(variance=0.2)  # wrong: one is missing
Mine(0.2, name="a")  # wrong: only by keyword
"""


def test_mypy_checks_the_options_of_a_component(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    source = Path(sslx.__file__).parents[1]  # an editable installation is invisible to mypy without help
    path = {} if source.name == "site-packages" else {"MYPYPATH": str(source)}
    root = Path(__file__).parents[2]  # its settings, and what mypy has read of torch if it has run there
    settings = ["--config-file", str(root / "pyproject.toml"), "--cache-dir", str(root / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *settings, "snippet.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **path}, capture_output=True, text=True, timeout=300
    )
    errors = {
        int(line.split(":")[1])
        for line in done.stdout.splitlines()
        if line.startswith("snippet.py:") and ": error: " in line
    }
    wrong = {n for n, line in enumerate(SNIPPET.splitlines(), 1) if "# wrong" in line}
    assert errors == wrong, done.stdout
    assert 'Revealed type is "float"' in done.stdout or 'Revealed type is "builtins.float"' in done.stdout
