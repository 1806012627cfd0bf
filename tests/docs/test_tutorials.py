"""The tutorials run, in a short form, and each page has what a reader expects of it.

The short form trains for one epoch on 500 images, with one seed. It runs the cells in this process: `!sslx ...` as a
command, other shell commands not at all. It ends where a tutorial installs a package; test_strangers installs such
packages. `python docs/tutorials/run.py` runs the tutorials in full, as notebooks, and stores their output.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.ipynb"))
NAMES = ["compare-methods", "densities", "first-plugin", "from-notebook", "my-images", "rules"]
SHORT = {
    r"(epochs\W{1,3})\d+": r"\g<1>1",
    r"\b0, 1, 2([\])])": r"0,\1",  # seeds
    r"linear\.shots=[\d,]+": "linear.shots=1 --set linear.c=1",
}


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def code(path: Path) -> list[str]:
    """The source of each cell of the short form."""
    sources = ["".join(cell["source"]) for cell in cells(path, "code")]
    for long, short in SHORT.items():
        sources = [re.sub(long, short, source).replace("\\\n", "") for source in sources]
    installs = next((i for i, source in enumerate(sources) if source.startswith("!pip ")), len(sources))
    return sources[:installs]


def test_all_tutorials_are_there() -> None:
    assert [path.stem for path in TUTORIALS] == NAMES


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # one seed has no variance
@pytest.mark.parametrize("path", TUTORIALS, ids=NAMES)
def test_the_tutorial_runs(path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "show", lambda: pyplot.close("all"))

    def shell(line: str) -> None:
        words = shlex.split(re.split(r" [>|] ", line)[0])
        if words[0] == "sslx":
            status, _, errors = command(*words[1:], *(("--subset", "500") if words[1] == "run" else ()))
            assert status == (1 if "wrong" in line else 0), f"{line}\n{errors}"

    namespace: dict[str, Any] = {"__name__": "__main__", "shell": shell}
    for source in code(path):
        if match := re.match(r"%%writefile (\S+)\n", source):
            Path(match[1]).write_text(source[match.end() :])
        else:
            source = re.sub(r"^!(.*)$", lambda match: f"shell({match[1]!r})", source, flags=re.MULTILINE)
            exec(compile(source, path.name, "exec"), namespace)


@pytest.mark.parametrize("path", TUTORIALS, ids=NAMES)
def test_the_page_says_what_it_takes_and_shows_what_comes_out(path: Path) -> None:
    first, *_, last = ("".join(cell["source"]) for cell in cells(path, "markdown"))
    assert re.search(r"\*\*What you learn\*\*: .*\n- \*\*Time\*\*: about \d+ s .*\n- \*\*Machine\*\*: ", first)
    assert re.findall(r"^## .*", last, re.MULTILINE)[-1] == "## What to read next"
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("path", TUTORIALS, ids=NAMES)
def test_the_output_is_plain_text_of_any_computer(path: Path) -> None:
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            text = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            assert not re.search(r"[\x1b\r]|s left|Warning|(?<![\w.:/])/[a-zA-Z]+/", text), text


@pytest.mark.parametrize("path", TUTORIALS, ids=NAMES)
def test_linked_pages_exist(path: Path) -> None:
    text = "".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert links and [link for link in links if not (path.parent / link).exists()] == []
