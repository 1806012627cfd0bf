"""Imports run one way, the built-ins come in by the strangers' door, and lists are fast because torch stays out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sslx

ROOT = Path(sslx.__file__).parent


def imports(folder: str) -> Iterator[tuple[str, str]]:
    """(file, imported sslx module) for every import of sslx below a folder, those inside functions included."""
    for path in ROOT.joinpath(folder).rglob("*.py") if (ROOT / folder).is_dir() else [ROOT / folder]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names = [node.module or ""]
                if node.module == "sslx":
                    names = [f"sslx.{alias.name}" for alias in node.names]
            for name in names:
                if name.split(".")[0] == "sslx":
                    yield str(path.relative_to(ROOT)), name


#: What each room of the package may import. Those of a folder may import each other, unless it is listed here by parts.
ALLOWED = {
    "core": ("sslx.core",),
    "core/training": ("sslx.core",),
    "plugins": ("sslx.core", "sslx.plugins"),
    "families": ("sslx.core.public", "sslx.families"),
    "api.py": ("sslx.core", "sslx.plugins", "sslx.families"),
    "ssl_methods": ("sslx.api", "sslx.ssl_methods"),
    "data_loaders": ("sslx.api", "sslx.data_loaders"),
    "optimizers": ("sslx.api", "sslx.optimizers"),
    "evaluators": ("sslx.api", "sslx.evaluators"),
    "trackers": ("sslx.api", "sslx.trackers"),
    "studies": ("sslx.api", "sslx.studies"),
    "outputs": ("sslx.core", "sslx.outputs"),
    "runs": ("sslx.core", "sslx.plugins", "sslx.outputs", "sslx.runs"),
    "representation.py": ("sslx.core", "sslx.plugins", "sslx.runs"),
    "face.py": ("sslx.core", "sslx.outputs", "sslx.runs", "sslx.representation"),
    "__init__.py": ("sslx.core", "sslx.plugins", "sslx.face"),
    "testing": ("sslx.core", "sslx.plugins", "sslx.runs", "sslx.testing"),
    "cli": ("sslx",),
    "__main__.py": ("sslx.cli",),
}


def room(file: str) -> str:
    """The entry of ALLOWED that a file belongs to."""
    return max((name for name in ALLOWED if file == name or file.startswith(f"{name}/")), key=len)


def test_every_file_is_in_a_room() -> None:
    files = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")]
    assert {room(file) for file in files} == set(ALLOWED)


@pytest.mark.parametrize("name", ALLOWED)
def test_imports_run_one_way(name: str) -> None:
    found = [pair for pair in imports(".") if room(pair[0]) == name]
    wrong = [pair for pair in found if not pair[1].startswith(ALLOWED[name])]
    if name == "core":  # which is what a plugin is made of, and knows nothing of a run
        wrong += [pair for pair in found if pair[1].startswith("sslx.core.training")]
    assert wrong == []


def modules() -> dict[str, set[str]]:
    """The modules of sslx that each module names, in functions and for type checkers as well."""
    files = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts) for path in ROOT.rglob("*.py")}
    names = {path: name.removesuffix(".__init__") for path, name in files.items()}
    known, graph = set(names.values()), dict[str, set[str]]()
    for path, name in names.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in known:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & known
                graph[name] |= inner or {node.module}
            elif isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & known
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of two or more modules each of which leads to all others of its group."""

    def reached(start: str) -> set[str]:
        found, ahead = set[str](), [start]
        while ahead:
            ahead += (new := graph[ahead.pop()] - found)
            found |= new
        return found

    reach = {name: reached(name) for name in graph}
    return sorted({tuple(sorted(b for b in reach[a] if a in reach[b])) for a in graph if a in reach[a]})  # type: ignore


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_no_module_imports_itself_in_a_circle() -> None:
    assert circles(modules()) == []


def test_names_are_the_same_wherever_they_are_taken_from() -> None:
    import sslx.api
    from sslx import families
    from sslx.core import public

    offered = [(name, value) for face in (public, families) for name, value in vars(face).items()]
    offered = [(name, value) for name, value in offered if name[0] != "_" and not isinstance(value, ModuleType)]
    assert len(offered) > 60
    assert all(getattr(sslx.api, name) is value for name, value in offered)
    assert sslx.api.__all__ == dir(sslx.api) and {"Method", "VAE", "Run", "method"} < set(dir(sslx.api))
    with pytest.raises(AttributeError, match=r"sslx.api has no 'Nothing'"):
        sslx.api.Nothing  # noqa: B018
    with pytest.raises(AttributeError, match="sslx has no 'Nothing'"):
        sslx.Nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_star_import_brings_the_api(in_python: Callable[[str], str]) -> None:
    code = (
        "from sslx.api import *\nclass Mine(Method): pass\nprint(Mine.__mro__[1].__name__, VAE.kind, option.__name__)"
    )
    assert in_python(code) == "Method method option"
    assert in_python("import sslx; print(dir(sslx))") == str(sorted(sslx.__all__))


def test_the_order_of_imports_is_of_no_matter(in_python: Callable[[str], str]) -> None:
    code = (
        "from sslx.core.interfaces import Decoder\nclass Mine(Decoder): pass\nprint(type(Mine().likelihood).__name__)"
    )
    assert in_python(code) == "GaussianLikelihood"


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"], ["--version"]])
def test_help_and_lists_do_not_import_torch(arguments: list[str], in_python: Callable[[str], str]) -> None:
    code = (
        "import sys\nfrom sslx.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as e: code = e.code\n"
        "heavy = {'torch', 'numpy', 'rich', 'sklearn', 'faiss', 'timm'} & set(sys.modules)\n"
        "print('code', code, 'heavy', sorted(heavy))"
    )
    assert in_python(code).endswith("code 0 heavy []")


def test_record_modules_of_plugins_do_not_import_torch(in_python: Callable[[str], str]) -> None:
    modules = "sslx, sslx.ssl_methods, sslx.data_loaders, sslx.optimizers, sslx.evaluators, sslx.trackers, sslx.studies"
    assert in_python(f"import sys, {modules}; print('torch' in sys.modules)") == "False"
