"""The pages say what the code says: some are made of it, the commands and programs of the others are run."""

from __future__ import annotations

import csv
import functools
import importlib.util
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from PIL import Image

from sslx import api
from sslx.cli.plugins import option_rows
from sslx.core.interfaces import INTERFACES
from sslx.core.toml import read
from sslx.core.training.config import RunConfig, configure
from sslx.outputs import tables
from sslx.plugins import hookspecs
from sslx.plugins.record import KINDS
from sslx.plugins.registry import Registry, registry
from sslx.plugins.scaffold import RUNS
from sslx.runs.search import Searching
from sslx.runs.studies import recipe
from sslx.testing import checks
from sslx.testing.components import CHECKS, checks_of
from sslx.testing.packages import CHECKS as OF_DISTRIBUTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXTRAS = {
    "howto/export": ("onnxruntime",),
    "howto/embed": ("pyarrow",),
    "howto/runs": ("optuna",),
    "howto/track": ("tensorboard", "trackio"),
}
PROJECT = read(ROOT / "pyproject.toml")["project"]
EXTRA: dict[str, list[str]] = PROJECT["optional-dependencies"]
SHELL = ("sh", "console")
CHECKED = (DOCS / "reference" / "checks.md").read_text()
HOOKS = [name for name in vars(hookspecs) if name.startswith("sslx_")]
#: Pages that people write; those of docs/results are made by studies.
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if not {"_build", "results"} & set(path.parts)]


@functools.cache
def made(what: str) -> dict[str, str]:
    """The pages that docs/generate.py makes: `pages`, which are committed, or `reference`."""
    pytest.importorskip("problog", reason="the extra nesy is not installed, and its rules are in the reference")
    return runpy.run_path(str(DOCS / "generate.py"))[what]()


def test_the_pages_of_methods_are_those_that_the_code_makes() -> None:
    folder = DOCS / "methods"
    written = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.md")}
    assert written == made("pages"), "run `python docs/generate.py`"


def test_the_table_of_recipes_is_that_of_their_files() -> None:
    page = (DOCS / "howto" / "studies.md").read_text()
    filled = runpy.run_path(str(DOCS / "generate.py"))["with_table"](page)
    assert filled == page and "| `simclr-cifar10` |" in page, "run `python docs/generate.py`"


def test_every_method_has_a_page_for_people_who_choose() -> None:
    pages = made("pages")
    for name in registry().providers("method"):
        page = pages[f"{name}.md"]
        assert all(f"\n## {title}\n" in page for title in ("When to use it", "Run it", "Options")), name
        assert f"```sh\nsslx run --plugin {name}" in page
        assert "\n- Paper: " in page or name in ("ae", "random")
        loss = page.partition("\n## Loss\n")[2].partition("\n## ")[0]
        assert re.search(r"{math}|\$|Its loss is that of \[|reference/constraints", loss) or name == "random", name
        assert f"]({name}.md)" in pages["index.md"]


def test_pages_count_the_methods_and_those_who_choose_see_some_of_each_group() -> None:
    pages = {path: path.read_text() for path in [*PAGES, ROOT / "README.md"]}
    count = len(registry().providers("method"))
    assert f"sslx has {count} methods" in made("pages")["index.md"]
    for path in ("README.md", "docs/howto/choose-a-method.md", "docs/project/comparison.md"):
        assert re.search(rf"\b{count} (self-supervised and generative )?methods|\[{count}\]\(", pages[ROOT / path]), (
            path
        )
    choice = pages[DOCS / "howto" / "choose-a-method.md"]
    for part in made("pages")["index.md"].split("\n## ")[1:-2]:
        names = re.findall(r"^\| \[([\w-]+)\]", part, re.MULTILINE)
        assert names and (part.startswith("Pretext") or re.search(rf"(`|-p |-plugin )({'|'.join(names)})\b", choice)), (
            part
        )


def test_pages_of_methods_show_the_settings_of_recipes_and_what_studies_found() -> None:
    page = made("pages")["simclr.md"].split("\n## Settings of a paper\n")[1]
    (name,) = re.findall(r"^`sslx run --recipe (\S+)`", page, re.MULTILINE)
    config, default = recipe(name), configure({"method": "simclr", "dataset": "cifar10"})
    rows = dict(re.findall(r"^\| `([\w.]+)` \| [^|]+ \| `([^`]+)` \|$", page.split("\n## ")[0], re.MULTILINE))
    assert float(rows["train.optimizer.lr"]) == config["train"]["optimizer"]["lr"] != default.train.optimizer.lr
    assert rows["projector"] == str(config["method"]["projector"]) and rows["encoder"] == "resnet18"
    with (DOCS / "results" / "gedi-table-2" / "table.csv").open() as file:
        (cell,) = (row for row in csv.DictReader(file) if (row["block"], row["row"]) == ("circles", "GEDI"))
    link = "[GEDI, Table 2](../results/gedi-table-2/index.md)"
    found = f"| circles | NMI test | {link} | {float(cell['ours']):.2f} ± {float(cell['spread']):.2f} | {cell['n']} | "
    assert found in made("pages")["gedi.md"]
    linked = "".join(made("pages").values())
    assert all(f"(../results/{path.parent.name}/index.md)" in linked for path in DOCS.glob("results/*/index.md"))


def test_evaluators_of_a_method_are_said_to_be_added() -> None:
    page = " ".join((DOCS / "methods" / "nesy.md").read_text().split())
    assert "`views.count=1`" in page and "scored by [`cluster`](../reference/evaluators.md#cluster) beside" in page
    config = configure({"method": "nesy", "dataset": "mnist-addition"})
    assert list(config.evaluators) == ["knn", "linear", "cluster"]


def test_options_are_documented_once_where_they_are_declared() -> None:
    pages = {
        name: re.sub(r"## Settings of a paper\n.*?\n## ", "", text, flags=re.S) for name, text in made("pages").items()
    }
    for option in ("projector", "representation", "energy"):  # of `Projected` and `Encoded`
        pages_with = {name for name, text in pages.items() if f"| `{option}` |" in text}
        assert pages_with & {"families/projected.md", "families/encoded.md"} and "byol.md" not in pages_with


def test_the_reference_is_complete() -> None:
    import sslx

    pages = made("reference")
    assert all(re.search(rf"{{py:\w+}} {name}\b", pages["api.md"]) for name in api.__all__)
    assert all(re.search(rf"{{py:\w+}} {name}\b", pages["python.md"]) for name in sslx.__all__)
    assert "{py:method} inverse_transform(Z: Any)" in pages["python.md"]
    for kind in KINDS:
        for name in registry().providers(kind) if kind not in ("method", "command") else ():
            page = "views" if kind == "views" else "energies" if kind == "energy" else f"{kind}s".replace("ys", "ies")
            assert f"\n## {name}\n" in pages[f"{page}.md"]


def test_programs_and_lists_of_docstrings_are_not_typeset_as_equations() -> None:
    pages = "".join(made("reference").values())
    typeset = "".join(found[0] for found in re.finditer(r"```{math}.*?```|\$[^$\n]+\$", pages, re.DOTALL))
    assert "log" in typeset and not re.search(r"\"|title, paper|timm|results\.json", typeset)


def test_every_option_of_a_run_is_on_the_page_of_the_config() -> None:
    page = made("reference")["config.md"]
    names = [name for name, expected, *_ in option_rows(RunConfig) if expected != "options"]
    names += [f"search.{name}" for name, *_ in option_rows(Searching)]
    assert len([name for name in names if name.startswith("train.")]) > 20
    assert [name for name in names if f"\n| `{name}` | " not in page] == []


@pytest.mark.parametrize("words", ["", "run", "eval", "plugins show"])
def test_the_help_of_a_command_is_what_it_prints(words: str) -> None:
    program = [sys.executable, "-m", "sslx", *words.split(), "--help"]
    done = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"})
    assert f"```text\n{done.stdout.rstrip()}\n```\n" in made("reference")["commands.md"]


def test_every_environment_variable_has_a_line() -> None:
    page = (DOCS / "reference" / "environment.md").read_text()
    code = "".join(path.read_text() for path in Path(api.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"\bSSLX_[A-Z_]+", code)) == set(re.findall(r"\bSSLX_[A-Z_]+", page))


def test_every_file_of_a_run_has_its_schema() -> None:
    page = made("reference")["schemas.md"]
    for name in ("run.json", "results.json", "training.json", "grid.json", "checkpoints/step-N/manifest.json"):
        assert f"\n## {name}\n" in page
    assert "| `trained.NAME` | [A result](#a-result)" in page and "| `scores.NAME` | A number. |" in page


#: Imports what docs/conf.py imports and makes all pages that are made, without the modules that are named.
BUILD = """
import ast, importlib, runpy, sys
from pathlib import Path
docs, *absent = sys.argv[1:]
sys.modules |= dict.fromkeys(absent)
code = Path(docs, "conf.py").read_text()
for node in ast.walk(ast.parse(code)):
    if isinstance(node, ast.Import | ast.ImportFrom):
        exec(ast.unparse(node))
    if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "extensions":
        list(map(importlib.import_module, ast.literal_eval(node.value)))
made = runpy.run_path(str(Path(docs, "generate.py")))
made["reference"](), made["pages"]()
"""


def brought(distribution: str, extras: set[str], found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All distributions, with an extra or "", that pip installs with this one."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    texts = requires(distribution) or []
    if distribution == "sslx":  # what was installed may be older than the file
        texts = [*PROJECT["dependencies"], *(f"{t}; extra == '{e}'" for e in EXTRA for t in EXTRA[e])]
    for extra in {"", *extras} - {e for name, e in found if name == distribution}:
        found.add((distribution, extra))
        for each in map(Requirement, texts):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                with suppress(PackageNotFoundError):  # not installed here
                    brought(canonicalize_name(each.name), each.extras, found)
    return found


def test_the_extra_docs_brings_all_that_the_site_is_made_of() -> None:
    """The pages are made in a process that lacks whatever else is installed here."""
    pytest.importorskip("sphinx")
    there = {name for name, _ in brought("sslx", {"docs"}, set())}
    absent = [
        module
        for module, distributions in packages_distributions().items()
        if module.isidentifier() and there.isdisjoint(re.sub("[-_.]+", "-", each).lower() for each in distributions)
    ]
    assert "pytest" in absent and "sphinx" not in absent
    done = subprocess.run([sys.executable, "-c", BUILD, str(DOCS), *absent], capture_output=True, text=True, cwd=DOCS)
    assert done.returncode == 0, done.stderr


def test_the_extra_dev_brings_all_but_what_is_compiled_and_what_is_compared() -> None:
    (dev,) = EXTRA["dev"]
    named = set(re.findall(r"\w+", dev.removeprefix("sslx")))
    assert EXTRA.keys() - named == {"dev", "ffcv", "bench", "nesy"} and "sslx[nesy]" in EXTRA["docs"]
    page = (DOCS / "start" / "install.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == EXTRA.keys()


def without_code(text: str) -> str:
    return re.sub(r"^((?:> )* *)(`{3,})[^\n]*\n.*?^\1\2", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_pages_have_one_title_labelled_blocks_and_short_lines(path: Path) -> None:
    text = path.read_text()
    prose = without_code(text)
    assert len(re.findall(r"^# ", prose, flags=re.MULTILINE)) == 1
    opening = re.findall(r"^ *```([^\n]*)$", text, flags=re.MULTILINE)[::2]
    assert all(opening), "a block says what it is: sh, console, text, python, toml"
    assert not re.search(r"^```text\n(?:sslx|pip|apt-get) [^`│]*^```", text, flags=re.MULTILINE), "commands are sh"
    assert not re.search(r"benchmarks/results/\w+\.md", prose), "readers of the site follow links, not paths"
    long = [line for line in prose.splitlines() if len(line) > 120 and line.lstrip()[:1] != "|" and "$" not in line]
    assert [line for line in long if not re.search(r"\]\(|https?:|^#|::", line)] == []


def toctree(path: Path) -> list[tuple[str, str]]:
    """The entries of a page's menus: their titles, if they state one, and what they lead to."""
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(":")]
    return [(found[1] or "", found[2]) for line in lines if (found := re.fullmatch(r"(?:(.+) <)?([^<>]+)>?", line))]


def test_the_menu_names_every_page_in_an_order_that_somebody_chose() -> None:
    named = [target for _, target in toctree(DOCS / "index.md")]
    folders = ("start", "tutorials", "howto", "concepts", "write", "project")
    there = [path for folder in folders for path in (DOCS / folder).iterdir() if path.suffix in (".md", ".ipynb")]
    assert sorted(named) == sorted(
        [f"{path.parent.name}/{path.stem}" for path in there]
        + [f"{each}/index" for each in ("methods", "reference", "results")]
    )
    assert named.index("tutorials/my-images") < named.index("tutorials/compare-methods")


def test_the_start_page_has_a_picture_and_cards() -> None:
    page = (DOCS / "index.md").read_text()
    (picture,) = re.findall(r"^!\[.+\]\((\S+)\)$", page, re.MULTILINE)
    assert (DOCS / picture).exists() and page.count("{grid-item-card}") == 3


def test_the_list_of_results_names_paper_and_contents_of_each_page() -> None:
    index = DOCS / "results" / "index.md"
    pages = {path.parent.name: path.read_text().splitlines() for path in index.parent.glob("*/index.md")}
    titles = {target.removesuffix("/index"): title for title, target in toctree(index)}
    assert titles.keys() == pages.keys(), "a page is in the table and in the toctree of docs/results/index.md"
    for name, (title, _, lead, *_) in pages.items():
        assert lead.startswith(f"{titles[name]}.")
        assert f"\n| [{titles[name]}]({name}/index.md) | {title.removeprefix('# ')} |\n" in index.read_text()


def anchors(text: str) -> set[str]:
    """The anchors of the headings of a page, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.+)$", without_code(text), flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)).lower().replace(" ", "-")
        for title in titles
    }


def test_links_lead_somewhere() -> None:
    pages = {DOCS / "reference" / name: text for name, text in made("reference").items()}
    pages |= {path: path.read_text() for path in [*PAGES, *ROOT.glob("*.md"), *DOCS.glob("results/**/*.md")]}
    broken = []
    for path, text in pages.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
            file, _, anchor = target.partition("#")
            if re.match(r"(https?|mailto):", target):
                continue
            to = Path(os.path.normpath(path.parent / file)) if file else path
            known = to in pages or to.exists()
            if not known or (anchor and to in pages and anchor not in anchors(pages[to])):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


@pytest.mark.parametrize(("name", "page"), [*((kind, "kinds") for kind in KINDS), *((hook, "hooks") for hook in HOOKS)])
def test_every_kind_and_every_hook_has_a_section(name: str, page: str) -> None:
    """test_conformance tests every kind, and test_plugins every hook and the command."""
    text = (DOCS / "reference" / f"{page}.md").read_text()
    assert re.search(rf"^## {name}\n\n`?\S", text, re.MULTILINE)


@pytest.mark.parametrize("kind", INTERFACES)
def test_every_kind_has_checks_and_built_ins_that_pass_them(kind: str) -> None:
    assert kind in KINDS and checks_of(kind)
    assert any(p.plugin.distribution == "sslx" for found in registry().providers(kind).values() for p in found)
    row = re.search(rf"^\| {kind} \| (.*) \|$", CHECKED, re.MULTILINE)
    assert row and row[1] == ", ".join(f"`{check.__name__}`" for check in checks_of(kind))


def test_the_page_names_the_checks_of_all_components_and_the_kinds_of_templates() -> None:
    for check in (*CHECKS, *OF_DISTRIBUTIONS):
        assert f"`{check.__name__}`" in CHECKED
    page = (DOCS / "write" / "publish.md").read_text()
    kinds = " ".join(page.split("`--kind` is one of")[1].split("Nothing is")[0].split())
    assert set(re.findall("`([a-z]+)`", kinds)) == set(RUNS)


def test_each_promise_has_tests_that_exist() -> None:
    text = (DOCS / "project" / "promises.md").read_text()
    found = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(found) > 100
    tests = DOCS.parent / "tests"
    for file, name in found:
        assert f"def {name}(" in (tests / file).read_text(), f"{file}::{name}"


def test_the_map_of_the_architecture_leads_somewhere() -> None:
    """Every path that the page names exists."""
    text, package = (DOCS / "project" / "architecture.md").read_text(), Path(api.__file__).parent
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
        "start/install",
        "start/quickstart",
        "howto/python",
        "howto/runs",
        "howto/representation",
        "howto/export",
        "howto/embed",
        "howto/track",
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
        if kind == "toml" and (name := re.match(r"# (\w+\.toml)\n", text)):
            (tmp_path / name[1]).write_text(text)
        elif kind == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)
            assert importlib.util.find_spec(name[1].removesuffix(".py")) is not None
        elif kind == "python":
            exec(compile(text, f"{page}.md", "exec"), namespace)
            capsys.readouterr()
        for words, said in commands(text) if kind in SHELL else ():
            words = ["first" if word == "RUN" else word for word in words]
            if words[0] == "run" and "--config" not in words:
                words += ["--epochs", "1", *(["--batch-size", "4"] if "folder:PATH" in words else ["--subset", "128"])]
            code, output, errors = command(*words)
            assert code == (2 if said else 0), f"{words}\n{errors}"
            assert said in errors if said else output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run -p simvea", "there is no method 'simvea' (did you mean 'simvae'?)"),
        ("run -p vae -d folder:PATH", "dataset.path: PATH does not exist or is not a folder"),
        ("run -p vae --subset 128 --batch-size 200", "train.batch_size: expected at most 128, the number of training images"),
        ("run -p vae -d fashion-mnist --offline --data-dir PATH", "FashionMNIST is not in ...: choose another folder with --data-dir or SSLX_DATA"),
    ],
)  # fmt: skip
def test_messages_of_the_page_on_troubles_are_those_of_the_program(words: str, message: str, command: Any) -> None:
    assert f"`{message}`" in (DOCS / "howto" / "troubleshooting.md").read_text()
    code, _, errors = command(*words.split())
    assert code == 2 and all(part in errors for part in re.split(r"\.\.\.|PATH", message)), errors


def test_a_gain_that_is_called_hardly_one_is_defined() -> None:
    page = " ".join((DOCS / "concepts" / "evaluation.md").read_text().split())
    assert f"a gain of at least {tables._HARDLY:g}" in page and "*hardly above* it by less" in page


PYTHON = re.compile(r"^```python\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (path, base.lower().replace("viewpolicy", "views"), name)
    for path in (ROOT / "README.md", *sorted((DOCS / "write").glob("*.md")))
    for text in PYTHON.findall(path.read_text())
    for name, base in re.findall(r"^class (\w+)\((\w+)\)", text, flags=re.MULTILINE)
]
#: What cannot apply: a density without a constant, and images that are not drawn anew.
INAPPLICABLE = {
    "LaplacePrior": {"draws_are_sets_of_related_latents", "density_integrates_to_one", "draws_have_the_density"},
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
    pages = {path.stem for path in (DOCS / "write").glob("*.md")} - {"publish"}
    assert {path.stem for path, *_ in EXAMPLES} == {"README", *pages}
