"""The pages say what the code says: some are made of it, the commands and programs of the others are run."""

from __future__ import annotations

import importlib.util
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from PIL import Image

from sslx import api
from sslx.core.interfaces import INTERFACES
from sslx.plugins import hookspecs
from sslx.plugins.record import KINDS
from sslx.plugins.registry import Registry, registry
from sslx.plugins.scaffold import RUNS
from sslx.testing import checks
from sslx.testing.components import CHECKS, checks_of
from sslx.testing.packages import CHECKS as OF_DISTRIBUTIONS

DOCS = Path(__file__).parents[2] / "docs"
EXTRAS = {"export": ("onnxruntime", "pyarrow"), "track": ("tensorboard", "trackio")}


def test_the_pages_of_methods_are_those_that_the_code_makes() -> None:
    pages = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
    written = {path.name: path.read_text() for path in (DOCS / "methods").glob("*.md")}
    assert written == pages, "run `python docs/generate.py`"


def test_the_reference_and_the_page_on_hooks_are_complete() -> None:
    import sslx

    pytest.importorskip("problog", reason="the extra nesy is not installed, and its rules are in the reference")
    reference = runpy.run_path(str(DOCS / "generate.py"))["reference"]()
    assert all(f"## `{name}`\n" in reference["api.md"] for name in api.__all__)
    assert all(f"## `{name}`\n" in reference["python.md"] for name in sslx.__all__ if name != "__version__")
    assert "Representation.inverse_transform(Z: Any)" in reference["python.md"]
    assert "## `sslx data convert`\n" in reference["commands.md"]
    for kind in ("encoder", "prior", "objective", "dataset", "views", "optimizer", "evaluator", "tracker"):
        assert all(f"### {name}\n" in reference["components.md"] for name in registry().providers(kind))
    assert all(f"`{name}(" in (DOCS / "track.md").read_text() for name in HOOKS if name != "sslx_components")


PLUGINS = (DOCS / "plugins.md").read_text()
HOOKS = [name for name in vars(hookspecs) if name.startswith("sslx_")]


@pytest.mark.parametrize("name", [*KINDS, *HOOKS])
def test_every_kind_and_every_hook_has_a_section(name: str) -> None:
    """test_conformance tests every kind, and test_plugins every hook and the command."""
    assert re.search(rf"^### {name}\n\n\S", PLUGINS, re.MULTILINE)


@pytest.mark.parametrize("kind", INTERFACES)
def test_every_kind_has_checks_and_built_ins_that_pass_them(kind: str) -> None:
    assert kind in KINDS and checks_of(kind)
    assert any(p.plugin.distribution == "sslx" for found in registry().providers(kind).values() for p in found)
    row = re.search(rf"^\| {kind} \| (.*) \|$", PLUGINS, re.MULTILINE)
    assert row and row[1] == ", ".join(f"`{check.__name__}`" for check in checks_of(kind))


def test_the_page_names_the_checks_of_all_components_and_the_kinds_of_templates() -> None:
    for check in (*CHECKS, *OF_DISTRIBUTIONS):
        assert f"`{check.__name__}`" in PLUGINS
    kinds = " ".join(PLUGINS.split("`--kind` is one of")[1].split("Nothing is")[0].split())
    assert set(re.findall("`([a-z]+)`", kinds)) == set(RUNS)


def test_each_promise_has_tests_that_exist() -> None:
    text = (DOCS / "promises.md").read_text()
    found = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(found) > 100
    tests = DOCS.parent / "tests"
    for file, name in found:
        assert f"def {name}(" in (tests / file).read_text(), f"{file}::{name}"


def test_the_map_of_the_architecture_leads_somewhere() -> None:
    """Every path that the page names exists."""
    text, package = (DOCS / "architecture.md").read_text(), Path(api.__file__).parent
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|txt|toml))`", text))
    named |= {path.split("*")[0].rstrip("/") for path in re.findall(r"[\w/]+/(?:\w+\.py|\*\.py)", text)}
    missing = {path for path in named if not any((root / path).exists() for root in (package, DOCS.parent, DOCS))}
    assert len(named) > 60 and missing <= {"config.toml", "my_method.py", "my_prior.py"}  # of a run and of a user


def commands(text: str) -> Iterator[tuple[list[str], str]]:
    """The words of each `sslx` command of a block, and what it is said to print on standard error."""
    for each in re.split(r"^(?=\$ |sslx )", text, flags=re.MULTILINE):
        line, _, said = each.removeprefix("$ ").partition("\n")
        if line.startswith("sslx ") and not line.startswith("sslx: "):
            yield line.split("#")[0].split()[1:], said.strip() if each.startswith("$") else ""


@pytest.mark.parametrize(
    "page",
    [
        "start",
        "python",
        "runs",
        "representation",
        "export",
        "track",
        *(f"write/{path.stem}" for path in sorted((DOCS / "write").glob("*"))),
    ],
)
def test_commands_and_programs_of_a_page_work(
    page: str, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in EXTRAS.get(page, ()):
        pytest.importorskip(package)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.syspath_prepend(tmp_path)
    for i in range(10):
        path = tmp_path / "PATH" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (9, 9, 3), np.uint8)).save(path)
    namespace: dict[str, Any] = {}
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (DOCS / f"{page}.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for kind, text in blocks:
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)
            assert importlib.util.find_spec(name[1].removesuffix(".py")) is not None
        elif kind == "python":
            exec(compile(text, f"{page}.md", "exec"), namespace)
            capsys.readouterr()
        for words, said in commands(text) if not kind else ():
            words = ["first" if word == "RUN" else word for word in words]
            if words[0] == "run" and "--config" not in words:
                words += ["--epochs", "1", *(["--batch-size", "4"] if "folder:PATH" in words else ["--subset", "128"])]
            code, output, errors = command(*words)
            assert code == (2 if said else 0), f"{words}\n{errors}"
            assert said in errors if said else output


PYTHON = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (path, base.lower(), name)
    for path in (DOCS.parent / "README.md", *sorted((DOCS / "write").glob("*.md")))
    for text in PYTHON.findall(path.read_text())
    for name, base in re.findall(r"^class (\w+)\((\w+)\)", text, flags=re.MULTILINE)
]
#: What cannot apply: a density without a constant, and images that are not drawn anew.
INAPPLICABLE = {
    "Laplace": {"draws_are_sets_of_related_latents", "density_integrates_to_one", "draws_have_the_density"},
    "Waves": {"fresh_images_are_a_function_of_the_epoch"},
    "Clouds": {"fresh_images_are_a_function_of_the_epoch"},
}


@pytest.mark.parametrize(("path", "kind", "name"), EXAMPLES, ids=[name for *_, name in EXAMPLES])
def test_examples_pass_the_checks_of_their_kind(
    path: Path, kind: str, name: str, sslx_registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = (text for text in PYTHON.findall(path.read_text()) if f"class {name}(" in text)
    module = ModuleType(f"example_{name}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, path.name, "exec"), vars(module))
    record = getattr(api, kind)("example", f"{module.__name__}:{name}", summary="an example")
    sslx_registry.add("sslx-example", SimpleNamespace(sslx_components=api.hookimpl(lambda: [record])))
    small = {"method:example": {"encoder": {"hidden": [16]}}} if kind == "method" else {}
    skipped = set()
    for check in checks(f"{kind}:example", options=small):
        try:
            check()
        except SkipTest:
            skipped.add(check.name)
    assert skipped == INAPPLICABLE.get(name, set())


def test_there_are_examples_of_every_page() -> None:
    assert {path.stem for path, *_ in EXAMPLES} == {"README", *(path.stem for path in (DOCS / "write").glob("*.md"))}
