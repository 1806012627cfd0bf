"""Writes docs/methods/: a page for each built-in method, from its code and from what was measured.

python docs/generate.py

The site has a reference, too, which `reference` makes of docstrings and options whenever it is built.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from sslx.api import Method
from sslx.cli import cli
from sslx.cli.plugins import option_rows
from sslx.core.options import interface_of, options_of
from sslx.core.training.config import RunConfig
from sslx.plugins.record import KINDS
from sslx.plugins.registry import registry

ROOT = Path(__file__).parent.parent
FLOORS = {
    "trained": "trained",
    "untrained": "its untrained encoder",
    "pca": "the principal components",
    "pixels": "the pixels",
}
MEASURED = ROOT / "benchmarks" / "results" / "methods.json"


def pages() -> dict[str, str]:
    """The text of each page by the name of its file."""
    found = registry()
    ours = {n: p[0].record for n, p in found.providers("method").items() if p[0].plugin.distribution == "sslx"}
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    measured = {name: row for name, row in known.items() if "of" in row}  # an older file says nothing of the floors
    pages = {f"{name}.md": "\n".join(page(record, measured.get(name))) for name, record in ours.items()}
    return {"index.md": "\n".join(index(ours, measured)), **pages}


def page(record: Any, row: dict[str, Any] | None) -> Iterator[str]:
    cls = registry().resolve("method", f"sslx/{record.name}").cls
    yield f"# {record.name}\n"
    yield f"{record.summary[0].upper()}{record.summary[1:]}." + (f" Paper: {record.paper}." if record.paper else "")
    yield f"\n{inspect.cleandoc(cls.__doc__)}\n"
    for base in cls.__mro__[1:]:
        if issubclass(base, Method) and base is not Method:
            yield f"## As every `{base.__name__}`\n\n{inspect.cleandoc(base.__doc__ or '')}\n"
    for name, kind, part in parts(cls):
        if kind not in ("encoder", "decoder"):
            yield f"## {name}: {kind} `{part.__name__}`\n\n{inspect.cleandoc(part.__doc__)}\n"
    yield "## Options\n"
    yield from options(cls)
    if cls.defaults:
        yield f"\nRecommended settings of a run, unless you say otherwise: `{json.dumps(cls.defaults)}`."
    if row and "knn" in row.get("trained", {}):
        yield f"\n## Measured\n\n{sentence(row)}"
    yield ""


def options(cls: type) -> Iterator[str]:
    yield "| option | expected | default | |\n|---|---|---|---|"
    for columns in option_rows(cls):
        yield "| `{}` | {} | {} | {} |".format(*(text.replace("|", "\\|") for text in columns))


def sentence(row: dict[str, Any]) -> str:
    data = row["settings"]["dataset"]["use"]
    ((of, width),) = row["of"].items()
    cost = f"{row['settings']['subset']} training images, {row['cpu_seconds']:.0f} CPU-seconds, {row['steps']} steps"
    lines = [
        f"On {data}, {of} of {width} dimensions: {cost}, every other setting at its default (`benchmarks/methods.py`). "
        f"{verdict(row)}\n",
        "| | kNN | linear |\n|---|---:|---:|",
    ]
    for who, label in FLOORS.items():
        lines.append(f"| {label} | " + " | ".join(number(row, who, score) for score in ("knn", "linear")) + " |")
    return "\n".join(lines)


def number(row: dict[str, Any], who: str, score: str) -> str:
    value = row.get(who, {}).get(score)
    return "" if value is None else f"{value:.3f}"


def verdict(row: dict[str, Any]) -> str:
    """Which floors the method is above by kNN, in a sentence."""
    others = {
        label: row["trained"]["knn"] > row[who]["knn"]
        for who, label in FLOORS.items()
        if who != "trained" and "knn" in row.get(who, {})
    }
    parts = [
        f"{words} {' and '.join(label for label, above in others.items() if above is wanted)}"
        for words, wanted in (("above", True), ("not above", False))
        if wanted in others.values()
    ]
    return f"By kNN it is {', '.join(parts)}."


def parts(cls: type) -> Iterator[tuple[str, str, type]]:
    """The slots of a component, and what fills them by default."""
    for name, option in options_of(cls).items():
        interface = interface_of(option.type)
        if option.slot is not None and interface is not None and isinstance(option.default, str):
            yield name, interface.kind, registry().resolve(interface.kind, option.default).cls


def index(records: dict[str, Any], measured: dict[str, Any]) -> Iterator[str]:
    yield (
        "# Methods\n\nkNN accuracy on Fashion-MNIST after an equal, small budget of processor time, beside what needs "
        "no training: the same encoder untrained, as many principal components of the pixels as the representation is "
        "wide, and the pixels. The page of each method says which of them it is above at this budget.\n"
    )
    yield "| method | | paper | kNN | untrained | pca | pixels | above |\n|---|---|---|---:|---:|---:|---:|---|"
    for name, record in records.items():
        row = measured.get(name, {})
        cells = [number(row, who, "knn") for who in FLOORS]
        known = "knn" in row.get("trained", {})
        above = [
            short
            for who, short in (("untrained", "untrained"), ("pca", "pca"), ("pixels", "pixels"))
            if known and "knn" in row.get(who, {}) and row["trained"]["knn"] > row[who]["knn"]
        ]
        cells.append((", ".join(above) or "none") if known else "")
        yield f"| [{name}]({name}.md) | {record.summary} | {record.paper} | {' | '.join(cells)} |"
    yield ""


# --- the reference ----------------------------------------------------------------------------------------------------


def reference() -> dict[str, str]:
    """The text of each page of the reference by the name of its file."""
    import sslx
    import sslx.api

    made = {
        "api.md": ("sslx.api, for plugins", sslx.api.__doc__, described(sslx.api, dir(sslx.api))),
        "python.md": ("sslx, from Python", sslx.__doc__, described(sslx, sslx.__all__)),
        "commands.md": ("Commands", "What `--help` says.", commands(cli, "sslx")),
        "components.md": (
            "Components",
            "The options of a run, and all built-in components but methods with theirs.",
            components(),
        ),
    }
    return {name: "\n".join([f"# {title}\n", prose(doc), *lines, ""]) for name, (title, doc, lines) in made.items()}


def described(module: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        thing = getattr(module, name)
        if name.startswith("_") or inspect.ismodule(thing):
            continue
        yield f"\n## `{name}`\n"
        if not callable(thing):
            yield f"`{thing!r}`"
            continue
        yield f"```python\n{signature(name, thing)}\n```\n\n{prose(thing.__doc__)}\n"
        for part, function in functions(thing) if inspect.isclass(thing) else ():
            written = signature(f"{name}.{part}", function)
            if isinstance(vars(thing)[part], property):
                written = written.replace("() ->", ":")
            yield f"```python\n{written}\n```\n\n{prose(function.__doc__)}\n"


def functions(cls: type) -> Iterator[tuple[str, Any]]:
    """The documented functions and properties that a class itself defines."""
    for name, member in vars(cls).items():
        for wrapped in ("fget", "__func__", "fn"):  # of a property, a class method, scikit-learn's `available_if`
            member = getattr(member, wrapped, member)
        if inspect.isfunction(member) and not name.startswith("_") and member.__doc__:
            yield name, member


def components() -> Iterator[str]:
    yield f"\n## Options of a run\n\n{prose(RunConfig.__doc__)}\n"
    yield from options(RunConfig)
    for kind in KINDS:
        found = {n: p[0].record for n, p in registry().providers(kind).items() if p[0].plugin.distribution == "sslx"}
        if kind == "method" or not found:
            continue
        yield f"\n## {kind}\n"
        for name, record in found.items():
            cls = registry().resolve(kind, f"sslx/{name}").cls
            yield f"\n### {name}\n\n{record.summary[0].upper()}{record.summary[1:]}.\n\n{prose(cls.__doc__)}\n"
            if options_of(cls):
                yield from options(cls)


def commands(command: click.Command, name: str) -> Iterator[str]:
    """The help of a command and of those below it."""
    context = click.Context(command, info_name=name)
    yield f"\n## `{name}`\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from commands(command.get_command(context, each), f"{name} {each}")


def signature(name: str, thing: Any) -> str:
    """As it is written in the code: without quotes around annotations, and without self."""
    try:
        text = f"{name}{inspect.signature(thing)}"
    except ValueError:  # a class of C
        return name
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("(self, ", "(").replace("(self)", "()")


def prose(doc: str | None) -> str:
    """A docstring as Markdown: what is indented is as it was typed, or the entries of a section, `Args:`."""
    lines = []
    for line in inspect.cleandoc(doc or "").splitlines():
        if entry := re.fullmatch(r"    (\w+): (.*)", line):
            line = f"- `{entry[1]}`: {entry[2]}"
        elif line in ("Args:", "Attributes:", "Raises:"):
            line = f"{line[:-1]}\n"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    folder = ROOT / "docs" / "methods"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
