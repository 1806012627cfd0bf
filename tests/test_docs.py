"""The pages that are generated say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from sslx.plugins import hookspecs
from sslx.plugins.records import KINDS
from sslx.plugins.registry import registry
from sslx.plugins.scaffold import RUNS
from sslx.testing.components import CHECKS, INTERFACES, checks_of
from sslx.testing.distributions import CHECKS as OF_DISTRIBUTIONS

DOCS = Path(__file__).parent.parent / "docs"


def test_the_pages_of_methods_are_those_that_the_code_makes() -> None:
    pages = runpy.run_path(str(DOCS / "generate.py"))["pages"]()
    written = {path.name: path.read_text() for path in (DOCS / "methods").glob("*.md")}
    assert written == pages, "run `python docs/generate.py`"


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
