"""Every command and every example of the README works, in the order in which a reader meets them."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "console")
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind in SHELL for line in text.splitlines()]


def test_commands_and_files_of_the_readme_work(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for kind, text in BLOCKS:
        if kind in ("python", "toml") and (name := re.match(r"# (\w+\.(?:py|toml))\b", text)):
            (tmp_path / name[1]).write_text(text)
    for number in range(24):
        picture = np.random.default_rng(number).integers(0, 255, (12, 12, 3), np.uint8)
        (tmp_path / "PATH" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "PATH" / "ab"[number % 2] / f"{number}.png")
    lines = [line for line in COMMANDS if line.startswith("sslx ")]
    assert len(lines) >= 5 and len(README.read_text().splitlines()) < 140
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "run" and "--config" not in words:
            words += ["--epochs", "1", *(["--batch-size", "8"] if "folder:PATH" in words else [])]
        code, output, errors = command(*words)
        assert code == 0, f"{line}\n{errors}"
        assert output


def test_the_table_of_results_is_that_of_the_studies() -> None:
    made = runpy.run_path(str(README.parent / "docs" / "readme.py"))
    text, start = README.read_text(), (README.parent / "docs" / "index.md").read_text()
    for page, table in ((text, made["results"]()), (start, made["results"]("results"))):
        assert table in page and made["filled"](page, "results of docs/results", table) == page, "run docs/readme.py"
    assert made["results"]().count("\n") == 7 and "Representations of digits" in text


def test_the_quick_start_shows_what_the_readme_shows() -> None:
    made = runpy.run_path(str(README.parent / "docs" / "readme.py"))
    (printed,) = (text for kind, text in BLOCKS if kind == "text")
    quick = (README.parent / "docs" / "start" / "quickstart.md").read_text()
    assert made["without_time"](f"```text\n{printed}```") in quick and ": trained " not in quick


def test_the_first_command_installs_and_runs_and_the_second_tests() -> None:
    assert "pip install . && sslx run --plugin simvae" in COMMANDS
    assert 'pip install ".[test]" && pytest' in COMMANDS
    script = README.parent / ".ci" / "run"
    if script.exists():  # not in an installed copy
        written = script.read_text()
        assert 'pip install --quiet ".[test]"' in written and re.search(
            r"^pytest( --deselect \S+)?(  # .*)?$", written, re.M
        )


def test_python_of_the_readme_works(tmp_path: Path) -> None:
    (example,) = (text for kind, text in BLOCKS if kind == "python" and "sslx.run(" in text)
    done = subprocess.run(
        [sys.executable, "-c", example.replace('"epochs": 5', '"epochs": 1')],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "digits-simvae-1" in done.stdout and "'knn': " in done.stdout
