"""Imports run one way, the built-ins come in by the strangers' door, and lists are fast because torch stays out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

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


ALLOWED = {
    "core": ("sslx.core",),
    "plugins": ("sslx.core", "sslx.plugins"),
    "api.py": ("sslx.core", "sslx.plugins"),
    "ssl_methods": ("sslx.api", "sslx.ssl_methods"),
    "data_loaders": ("sslx.api", "sslx.data_loaders"),
    "evaluators": ("sslx.api", "sslx.evaluators"),
    "trackers": ("sslx.api", "sslx.trackers"),
    "session.py": ("sslx.core", "sslx.plugins", "sslx.api", "sslx.outputs.pictures", "sslx.outputs.export"),
    "export.py": ("sslx.core", "sslx.__version__"),
    "embedding.py": ("sslx.core", "sslx.runs.session"),
    "representation.py": ("sslx.core", "sslx.plugins", "sslx.runs.session"),
    "report.py": ("sslx.core", "sslx.runs.session"),
    "formats.py": ("sslx.outputs.tables",),
    "grid.py": ("sslx.core", "sslx.runs.session"),
    "preview.py": ("sslx.core",),
    "pictures.py": ("sslx.core",),
    "testing": ("sslx.core", "sslx.plugins", "sslx.runs.session", "sslx.cli", "sslx.testing"),
}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder: str) -> None:
    found = list(imports(folder))
    assert found
    exceptions = {  # for type checkers only
        ("plugins/hookspecs.py", "sslx.runs.session"),
        ("trackers/tensorboard.py", "sslx.Run"),
        ("trackers/trackio.py", "sslx.Run"),
    }
    wrong = [pair for pair in found if not pair[1].startswith(ALLOWED[folder]) and pair not in exceptions]
    assert wrong == []


def test_every_public_name_is_in_the_api() -> None:
    import sslx.api
    from sslx.core import public

    assert all(getattr(sslx.api, name) is getattr(public, name) for name in public.__all__)
    with pytest.raises(AttributeError, match="sslx.api has no 'Nothing'"):
        sslx.api.Nothing  # noqa: B018


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
    modules = "sslx, sslx.ssl_methods, sslx.data_loaders, sslx.evaluators, sslx.trackers"
    assert in_python(f"import sys, {modules}; print('torch' in sys.modules)") == "False"
