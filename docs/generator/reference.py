"""The pages of docs/reference that are made whenever the site is built."""

from __future__ import annotations

import contextlib
import enum
import inspect
import io
import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from generator.methods import plural
from generator.text import prose, rows, sentence, table, wrapped
from sslx.api import Component
from sslx.cli import cli
from sslx.cli.plugins import option_rows
from sslx.cli.run import _FLAGS, run_command
from sslx.core.training import checkpoint, run_folder
from sslx.core.training.config import RunConfig
from sslx.plugins.registry import registry
from sslx.runs.search import Range, Searching

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results"
#: The pages of kinds, and what a page says first.
KINDS_OF_PAGES = {
    "encoder": "An encoder is q(z|x). `--set encoder=NAME` chooses it, `--set encoder.KEY=VALUE` sets an option.",
    "decoder": "A decoder is p(x|z), a part of autoencoders: `--set decoder=NAME`.",
    "posterior": "A posterior is the last layer of an encoder: `--set encoder.posterior=NAME`.",
    "likelihood": "A likelihood is the last step of a decoder: `--set decoder.likelihood=NAME`.",
    "prior": "A prior is the distribution of the latents of related views: `--set prior=NAME`.",
    "objective": "An objective compares embeddings of views: `--set objective=NAME` in joint-embedding methods.",
    "energy": "An energy trains an unnormalized density beside the loss of a method: `--set energy=NAME`.",
    "constraint": "A constraint is a rule for the classes of images that belong together: `--set constraint=NAME`.",
    "dataset": "`--dataset NAME` chooses a dataset, `--set dataset.KEY=VALUE` sets an option.",
    "loader": "`--loader NAME` chooses how images reach the device, `--set loader.KEY=VALUE` sets an option.",
    "views": "`--set views=NAME` chooses how views are made, `--set views.KEY=VALUE` sets an option. [Views]"
    "(../concepts/views.md) explains the operations.",
    "optimizer": "`--set train.optimizer=NAME` chooses an optimizer, `--set train.optimizer.KEY=VALUE` sets an option.",
    "evaluator": "`--evaluators NAME,NAME` chooses evaluators, `--set evaluators.NAME.KEY=VALUE` sets an option. "
    "[Evaluation](../howto/evaluation.md) shows them in use.",
    "tracker": "`--track NAME` follows a run with a tracker.",
    "study": "`sslx reproduce NAME` carries out a study. [Tables and figures of papers](../howto/studies.md) explains "
    "what it writes.",
}
SECTIONS = {
    "method": "[Methods](../methods/index.md) have the options of the section `method`.",
    "dataset": "[Datasets](datasets.md) lists the options of every dataset.",
    "views": "These are the options of the policy `standard`. [View policies](views.md) lists the others.",
    "loader": "[Loaders](loaders.md) lists the options of every loader.",
    "evaluators": "A table with a name for each evaluator. [Evaluators](evaluators.md) lists their options.",
    "eval_dataset": "[Datasets](datasets.md) lists the options of every dataset.",
    "train": "Options of the optimizer may also be written without its name: `train.lr` is `train.optimizer.lr`. "
    "[Optimizers](optimizers.md) lists the options of the others.",
}
SEARCH = (
    "The table `[search]` of a sweep file [searches options](../howto/runs.md#search-options). Its table "
    "`space` has a list of choices or a range for each key."
)


def reference() -> dict[str, str]:
    """The text of each page of the reference by the name of its file."""
    import sslx
    import sslx.api

    made = {
        "config.md": config(),
        "commands.md": ["# Commands\n", "Every command as its `--help` prints it.", *commands(cli)],
        "python.md": ["# sslx, from Python\n", prose(sslx.__doc__), *described("sslx", sslx, sslx.__all__)],
        "api.md": ["# sslx.api, for plugins\n", prose(sslx.api.__doc__), *grouped(sslx.api)],
        "schemas.md": schemas(),
        "measurements.md": measurements(),
        **{f"{plural(kind)}.md": components(kind) for kind in KINDS_OF_PAGES},
    }
    return {name: wrapped(lines) for name, lines in made.items()}


def measurements() -> Iterator[str]:
    yield "# Measurements\n"
    yield (
        "What the programs in the folder `benchmarks` of the repository wrote when they were run. Each section names "
        "its program, which measures again. [Results](../results/index.md) has the tables and figures of papers.\n"
    )
    for path in sorted(MEASURED.glob("*.md")):
        yield re.sub(r"^#", "##", path.read_text(encoding="utf-8").rstrip(), flags=re.MULTILINE) + "\n"


# --- options and components -------------------------------------------------------------------------------------------


def config() -> Iterator[str]:
    parameters = {each.name: each.opts[0] for each in run_command.params}
    flags = {key: parameters[flag] for flag, key in _FLAGS.items() if flag in parameters}
    sections: dict[str, list[Any]] = {}
    for row in option_rows(RunConfig):
        if row[1] == "options":  # a group, whose options follow
            continue
        sections.setdefault(row[0].partition(".")[0], []).append(row)
    single = [found[0] for name, found in sections.items() if len(found) == 1 and name not in SECTIONS]
    yield "# config.toml\n"
    yield prose(RunConfig.__doc__) + "\n"
    yield (
        "Each option can be set in a `config.toml` for `sslx run --config`, by `sslx run --set KEY=VALUE`, and as a "
        "keyword of `sslx.run`. In TOML `train.epochs = 5` and a table `[train]` with `epochs = 5` are the same. "
        '`"none"` stands for no value. The options of the method need no section on the command line: '
        "`--set prior.variance=0.1` is `method.prior.variance`. The file in the folder of a run lists every option "
        "with its value.\n"
    )
    yield "## The run\n"
    yield from table(single, flags)
    for name, found in sections.items():
        if name in SECTIONS:
            yield f"\n## {name}\n\n{SECTIONS[name]}\n"
            yield from table(found, flags)
    yield f"\n## search\n\n{SEARCH}\n"
    yield from table([*option_rows(Searching, "search."), *option_rows(Range, "search.space.KEY.")], {})


def components(kind: str) -> Iterator[str]:
    found = registry().providers(kind)
    records = {n: p[0].record for n, p in found.items() if p[0].plugin.distribution == "sslx"}
    classes = {name: registry().resolve(kind, f"sslx/{name}").cls for name in records}
    title = {"views": "View policies"}.get(kind, plural(kind).capitalize())
    yield f"# {title}\n\n{KINDS_OF_PAGES[kind]}\n"
    yield "| name | |\n|---|---|"
    for name, record in records.items():
        yield f"| [`{name}`](#{name}) | {sentence(record.summary)} |"
    for name, record in records.items():
        cls = classes[name]
        base = next((b for b in cls.__mro__[1:] if b in classes.values()), None)
        yield f"\n## {name}\n\n{sentence(record.summary)}" + (f" Paper: {record.paper}." if record.paper else "")
        yield f"\n{prose(cls.__doc__)}\n"
        if own := rows(cls, base):
            yield from table(own)
        if base is not None:
            other = next(n for n, c in classes.items() if c is base)
            yield f"\n{'The other' if own else 'Its'} options are those of [`{other}`](#{other})."


# --- commands and files -----------------------------------------------------------------------------------------------


def commands(command: click.Command, *path: str) -> Iterator[str]:
    """The help of a command and of those below it."""
    yield f"\n## {' '.join(('sslx', *path))}\n\n```text\n{help_of(*path)}\n```\n"
    if isinstance(command, click.Group):
        context = click.Context(command, info_name="sslx")
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, *path, name)


def help_of(*path: str) -> str:
    """What `sslx PATH --help` prints in a terminal of 80 columns."""
    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(printed):
            cli.main([*path, "--help"], prog_name="sslx", standalone_mode=False)
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({} if columns is None else {"COLUMNS": columns})
    return printed.getvalue().rstrip()


def schemas() -> Iterator[str]:
    yield "# Schemas\n"
    yield (
        "The keys of the JSON files of a run, as every command checks them when it reads a file. A key with a question "
        "mark may be missing. A file may have further keys, which are not checked, and has the key `sha256`, a hash of "
        "all others. [Files of a run](files.md) says what the files are for.\n"
    )
    shapes = {**run_folder._SHAPES, "checkpoints/step-N/manifest.json": checkpoint._MANIFEST}
    for name, shape in {**shapes, "A result": run_folder.RESULT}.items():
        yield f"## {name}\n\n| key | value |\n|---|---|"
        yield from keys(shape)
        yield ""


def keys(shape: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, inner in shape.items():
        key = f"{prefix}{'NAME' if name is str else name}"
        below = inner[0] if isinstance(inner, list) else inner
        if below is run_folder.RESULT:
            yield f"| `{key}` | [A result](#a-result) of the evaluator of this name. |"
            continue
        if below is run_folder._RESULTS:
            yield f"| `{key}` | A list; each item has the keys above, for another dataset. |"
            continue
        yield f"| `{key}` | {words(inner)} |"
        if isinstance(below, dict) and below:
            yield from keys(below, f"{key.rstrip('?')}{'[]' if isinstance(inner, list) else ''}.")


def words(shape: Any) -> str:
    if isinstance(shape, list):
        return f"A list; each item is {words(shape[0])[0].lower()}{words(shape[0])[1:]}"
    names = {
        str: "Text.",
        int: "An integer.",
        float: "A number.",
        bool: "True or false.",
        dict: "A table.",
        object: "Any.",
    }
    return "A table." if isinstance(shape, dict) else {**names, list: "A list."}[shape]


# --- Python -----------------------------------------------------------------------------------------------------------


#: The parts of the page on sslx.api, in their order.
GROUPS = (
    "Interfaces",
    "Families of methods",
    "Options and records",
    "Data, views and losses",
    "Capabilities",
    "Randomness",
    "Errors",
)


def grouped(module: Any) -> Iterator[str]:
    """What plugins may import, by what it is for."""
    groups: dict[str, list[str]] = {title: [] for title in GROUPS}
    for name in dir(module):
        if not name.startswith("_") and not inspect.ismodule(getattr(module, name)):
            groups[group(getattr(module, name))].append(name)
    for title, names in groups.items():
        yield f"\n## {title}\n"
        yield from described("sslx.api", module, names)


def group(thing: Any) -> str:
    place = getattr(thing, "__module__", "") or ""
    if isinstance(thing, partial) or place in ("sslx.core.options", "sslx.plugins.record", "pluggy._hooks"):
        return "Options and records"
    if not hasattr(thing, "__name__"):
        return "Options and records"  # hookimpl
    for title, start in (
        ("Errors", "sslx.core.errors"),
        ("Capabilities", "sslx.core.capabilities"),
        ("Randomness", "sslx.core.randomness"),
        ("Families of methods", "sslx.families"),
    ):
        if place.startswith(start):
            return title
    if place in ("sslx.core.interfaces", "sslx.core.study") and issubclass(thing, Component):
        return "Interfaces"
    return "Data, views and losses"


def described(place: str, module: Any, names: Iterable[str]) -> Iterator[str]:
    """A directive of Sphinx for each name, so that other pages and other projects can link to it."""
    for name in names:
        thing = getattr(module, name)
        if not callable(thing):
            yield f"\n:::{{py:data}} {name}\n:module: {place}\n:value: {thing!r}\n:::\n"
        elif not inspect.isclass(thing):
            yield f"\n:::{{py:function}} {signature(name, thing)}\n:module: {place}\n\n{prose(thing.__doc__)}\n:::\n"
        else:
            kind = "exception" if issubclass(thing, BaseException) else "class"
            head = signature(name, thing).removesuffix(" -> None")
            yield f"\n::::{{py:{kind}}} {head}\n:module: {place}\n\n{prose(thing.__doc__)}\n"
            for part, comment in attributes(thing):
                yield f":::{{py:attribute}} {part}\n\n{comment}\n:::\n"
            for part, function in functions(thing):
                is_property = isinstance(vars(thing)[part], property)
                head = part if is_property else signature(part, function)
                yield f":::{{py:{'property' if is_property else 'method'}}} {head}\n\n{prose(function.__doc__)}\n:::\n"
            yield "::::\n"


def attributes(cls: type) -> Iterator[tuple[str, str]]:
    """The fields of a class and the members of an enumeration, as written in the code, with the comments on them."""
    if not attrs.has(cls) and not issubclass(cls, enum.Enum):
        return
    above = ""
    for line in inspect.getsource(cls).splitlines():
        if found := re.fullmatch(r" {4}#: (.+)", line):
            above = f"{above} {found[1]}".strip()
        elif found := re.fullmatch(r" {4}(?!_)(\w+(?:: [^#]+?)?(?: = [^#]+?)?)(?:  # (.+))?", line):
            comment = above or (found[2] or "")
            if comment and "option(" not in line and "slot(" not in line:
                start = comment[:1] if comment[1:2] == "(" else comment[:1].upper()  # q(z|x)
                yield found[1], f"{start}{comment[1:].removesuffix('.')}."
            above = ""
        else:
            above = ""


def functions(cls: type) -> Iterator[tuple[str, Any]]:
    """The documented functions and properties that a class itself defines."""
    for name, member in vars(cls).items():
        for wrapped_ in ("fget", "__func__", "fn"):  # of a property, a class method, scikit-learn's `available_if`
            member = getattr(member, wrapped_, member)
        if inspect.isfunction(member) and not name.startswith("_") and member.__doc__:
            yield name, member


def signature(name: str, thing: Any) -> str:
    """As it is written in the code: without quotes around annotations, and without self."""
    try:
        text = f"{name}{inspect.signature(thing)}"
    except ValueError:  # a class of C
        return name
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("(self, ", "(").replace("(self)", "()")
    return re.sub(r"<class '([\w.]+)'>|<(\w+)[^<>]*>", lambda m: m[1] or m[2], text)
