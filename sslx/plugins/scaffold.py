"""`sslx plugins new`, which writes a small complete package with one working component."""

import importlib.util
import keyword
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from sslx.core.errors import ConfigError, nearest
from sslx.plugins.hookspecs import GROUP

#: The kinds with a template, and a short command that uses a component called $name.
RUNS = {
    "method": "run --plugin $name --epochs 1",
    "prior": "run --plugin simvae --set prior=$name --epochs 1",
    "encoder": "run --plugin simclr --set encoder=$name --epochs 1",
    "decoder": "run --plugin vae --set decoder=$name --epochs 1",
    "objective": "run --plugin simclr --set objective=$name --epochs 1",
    "constraint": "run --plugin nesy --set constraint=$name --epochs 1",
    "dataset": "run --plugin simvae --dataset $name --epochs 1",
    "views": "run --plugin simclr --set views=$name --epochs 1",
    "optimizer": "run --plugin vae --set train.optimizer=$name --epochs 1",
    "evaluator": "run --plugin random --evaluators $name --epochs 1",
    "tracker": "run --plugin vae --track $name --epochs 1",
    "study": "reproduce $name --budget smoke",
}
#: What makes the command shorter in tests, for kinds that `--subset 64` does not suit.
_SHORT: dict[str, tuple[str, ...]] = {"study": ()}
#: Where each file of the package goes.
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "workflow.yml": ".github/workflows/test.yml",
    "records.py": "src/$module/__init__.py",
    "conftest.py": "tests/conftest.py",
    "test_conformance.py": "tests/test_conformance.py",
}


def create(distribution: str, kind: str, parent: Path) -> Path:
    """Write the package `parent/distribution` and return its path. Nothing is overwritten; raises ConfigError."""
    if kind not in RUNS:
        raise ConfigError(f"--kind: there is no template for the kind {kind}{nearest(kind, RUNS)}")
    name = distribution.removeprefix("sslx-")
    module = distribution.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise ConfigError(f"NAME: expected something like sslx-foo, in lower case with dashes, got {distribution!r}")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise ConfigError(f"NAME: a package {distribution!r} would hide the existing module {module!r}")
    target = parent / distribution
    command = f"sslx {Template(RUNS[kind]).substitute(name=name)}"
    words = {
        "distribution": distribution,
        "name": name,
        "module": module,
        "kind": kind,
        "imports": ", ".join(["Record", *sorted(["hookimpl", kind])]),
        "component": f"{kind}s" if kind == "method" else kind,
        "cls": "".join(part.capitalize() for part in name.split("-")) + kind.capitalize(),
        "group": GROUP,
        "bounds": _bounds(version("sslx")),
        "command": command,
        "arguments": ", ".join(f'"{word}"' for word in (*command.split()[1:], *_SHORT.get(kind, ("--subset", "64")))),
        "article": "an" if kind[0] in "aeiou" else "a",
        "Article": "An" if kind[0] in "aeiou" else "A",
    }
    templates = files("sslx.plugins") / "templates"
    texts = {to: templates / "package" / f"{source}.txt" for source, to in _FILES.items()}
    texts["src/$module/components.py"] = templates / "kinds" / f"{kind}.txt"
    if kind == "study":
        texts["src/$module/$name.toml"] = templates / "kinds" / "study.toml.txt"
    try:
        target.mkdir(parents=True)
        for to, source in texts.items():
            path = target / Template(to).substitute(words)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
    except FileExistsError as error:
        raise ConfigError(f"{target} already exists; nothing was written") from error
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror})") from error
    return target


def _bounds(current: str) -> str:
    """From this version to the next one that may break a plugin: "0.1.0" -> ">=0.1,<0.2"."""
    major, minor, *_ = current.split(".")
    return f">={major}.{minor},<" + (f"0.{int(minor) + 1}" if major == "0" else f"{int(major) + 1}")
