"""The pages of docs/methods: one for each built-in method and for each family, and an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generator import studied
from generator.equations import typeset
from generator.text import listed, paragraphs, prose, rows, sentence, sentences, settings, table, wrapped
from sslx import api
from sslx.api import Method
from sslx.core.options import interface_of, options_of
from sslx.core.toml import read
from sslx.plugins.registry import registry

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "benchmarks" / "results" / "methods.json"
SAID = read(ROOT / "docs" / "methods.toml")
FLOORS = {"trained": "trained", "untrained": "its untrained encoder", "pca": "principal components", "pixels": "pixels"}
#: Families that no method is by itself, with the titles of their pages.
FAMILIES = {
    "encoded": ("Encoded", "Methods with an encoder"),
    "projected": ("Projected", "Methods with a projection head"),
    "joint-embedding": ("JointEmbedding", "Joint embedding"),
    "prototypical": ("Prototypical", "Joint embedding with prototypes"),
    "bank": ("Bank", "Methods with a memory bank"),
    "pseudo-labels": ("PseudoLabels", "Pseudo-labels"),
}
#: The parts of the index, and the pages of families or methods whose methods are in each. The last match counts.
GROUPS: dict[str, tuple[str, ...]] = {
    "Joint embedding": ("joint-embedding", "bank"),
    "Clusters of images": ("prototypical", "pseudo-labels"),
    "Autoencoders": ("ae",),
    "Hidden patches": ("mae", "ibot", "i-jepa"),
    "Densities and clusters": ("gedi", "ebclr"),
    "Pretext tasks": ("rotation", "jigsaw", "colorization"),
    "Baseline": ("random",),
}
#: A sentence with such a word compares with the paper.
COMPARES = re.compile(r"\b(paper|papers|authors|official|code|here|misprint|lacks|Table|GEDI compares)\b")


def pages() -> dict[str, str]:
    """The text of each page by its path below docs/methods."""
    found = registry()
    records = {n: p[0].record for n, p in found.providers("method").items() if p[0].plugin.distribution == "sslx"}
    classes = {name: found.resolve("method", f"sslx/{name}").cls for name in records}
    known = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    measured = {name: row for name, row in known.items() if "of" in row}  # an older file says nothing of the floors
    made = {f"{name}.md": method(record, classes, measured.get(name)) for name, record in records.items()}
    made |= {f"families/{name}.md": family(name, classes) for name in FAMILIES}
    made["index.md"] = index(records, classes, measured)
    return {name: wrapped(lines) for name, lines in made.items()}


def homes(classes: dict[str, type]) -> dict[type, tuple[str, str]]:
    """The page of a class, below docs/methods, and what links to it say."""
    found = {getattr(api, cls): (f"families/{name}.md", title.lower()) for name, (cls, title) in FAMILIES.items()}
    return found | {cls: (f"{name}.md", f"`{name}`") for name, cls in classes.items()}


def parents(cls: type, classes: dict[str, type]) -> list[type]:
    """The classes above that have a page, the nearest first."""
    return [base for base in cls.__mro__[1:] if base in homes(classes)]


def link(cls: type, classes: dict[str, type], here: str = "") -> str:
    path, title = homes(classes)[cls]
    return f"[{title}]({here}{path})"


# --- a method ---------------------------------------------------------------------------------------------------------


def method(record: Any, classes: dict[str, type], row: dict[str, Any] | None) -> Iterator[str]:
    cls, said = classes[record.name], SAID["methods"][record.name]
    above = parents(cls, classes)
    first, *rest = documented(cls, classes)
    yield f"# {record.name}\n"
    yield f"{one_line(first)}\n"
    yield from papers(said["papers"])
    if above:
        yield f"- Family: {link(above[0], classes)}"
    yield f"\n## When to use it\n\n{said['use']}\n"
    yield f"## Run it\n\n```sh\nsslx run --plugin {record.name}{command(record.name)}\n```\n"
    if cls.defaults != (above[0].defaults if above else {}):
        yield recommended(cls.defaults)
    equations, explaining, differing = divided(rest)
    yield from loss(cls, above, classes, [*equations, *explaining])
    yield from details(differing)
    yield from studied.settings(record.name)
    yield from own_options(cls, above, classes)
    found = list(studied.results(record.name))
    yield from found
    if row and record.name != "random" and "knn" in row.get("trained", {}):
        yield f"\n## Measured\n\n{result(row)}"
    elif not found and record.name != "random":
        yield "\n## Measured\n\nThis method has been measured neither in a study nor for [the index](index.md) yet."


def recommended(defaults: dict[str, Any]) -> str:
    """What a method asks of its runs. Evaluators are added to those of the data, all else takes their place."""
    kept = {name: value for name, value in defaults.items() if name != "evaluators"}
    said = f"It recommends {listed(list(settings(kept)))} for its runs, which your settings override." if kept else ""
    added = listed([f"[`{name}`](../reference/evaluators.md#{name})" for name in defaults.get("evaluators", ())])
    scored = f"Its runs are scored by {added} beside the evaluators of the dataset, unless you name evaluators."
    return f"{said} {scored if added else ''}".strip() + "\n"


def documented(cls: type, classes: dict[str, type]) -> list[str]:
    """The paragraphs of the docstring of a class, and below them those of bases without a page."""
    found = paragraphs(cls.__doc__)
    for base in cls.__mro__[1:]:
        if base in homes(classes) or base is Method:
            break
        found += paragraphs(base.__doc__)[1:]
    return found


def one_line(paragraph: str) -> str:
    return " ".join(paragraph.split())


def papers(keys: list[str]) -> Iterator[str]:
    for key in keys:
        paper = SAID["papers"][key]
        title = f"[{paper['title']}]({paper['url']})" if "url" in paper else f"{paper['title']}, {paper['venue']}"
        yield f"- Paper: {paper['authors']} ({paper['year']}). {title}."


def command(name: str) -> str:
    """What a run of the method needs beside its name."""
    return {"nesy": " --dataset mnist-addition --set balance_weight=400", "colorization": " --dataset cifar10"}.get(
        name, ""
    )


def divided(rest: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The paragraphs up to the last equations, the sentences that explain these, and the sentences after them."""
    last = max((i for i, each in enumerate(rest) if each.startswith("    ")), default=-1)
    after = [sentences(paragraph) for paragraph in rest[last + 1 :]]
    lines = [line for paragraph in after for line in paragraph]
    first = len(after[0]) if after and last >= 0 else 0
    count = next((i for i, line in enumerate(lines[:first]) if COMPARES.search(line)), first)
    return rest[: last + 1], lines[:count], lines[count:]


def loss(cls: type, above: list[type], classes: dict[str, type], said: list[str]) -> Iterator[str]:
    """The equations of the method, and the parts that make it what it is."""
    parts = list(new_parts(cls, above, classes))
    if not parts and not any(each.startswith("    ") for each in said):
        if above and above[0] in classes.values():
            yield f"## Loss\n\nIts loss is that of {link(above[0], classes)}, with the changes above.\n"
        return
    yield "## Loss\n"
    last = max((i for i, each in enumerate(said) if each.startswith("    ")), default=-1)
    yield typeset("\n\n".join(said[: last + 1])).rstrip() + "\n"
    yield " ".join(said[last + 1 :]) + "\n"
    for name, kind, part, reference in parts:
        yield f"The {name} is [`{reference}`](../reference/{plural(kind)}.md#{reference}) by default:\n"
        yield "\n".join(f"> {line}".rstrip() for line in prose(part.__doc__).splitlines()) + "\n"


def new_parts(cls: type, above: list[type], classes: dict[str, type]) -> Iterator[tuple[str, str, type, str]]:
    """The parts that the page of a method above does not describe."""
    known = list(parts_of(above[0])) if above and above[0] in classes.values() else []
    yield from (part for part in parts_of(cls) if part not in known)


def parts_of(cls: type) -> Iterator[tuple[str, str, type, str]]:
    """The slots of a method and what fills them by default, other than its networks."""
    for name, option in options_of(cls).items():
        interface = interface_of(option.type)
        if option.slot is None or interface is None or interface.kind in ("encoder", "decoder"):
            continue
        if isinstance(option.default, str):
            yield name, interface.kind, registry().resolve(interface.kind, option.default).cls, option.default


def plural(kind: str) -> str:
    return {"prior": "priors", "energy": "energies", "views": "views", "study": "studies"}.get(kind, f"{kind}s")


def details(lines: list[str]) -> Iterator[str]:
    if lines:
        heading = "Details, and what differs from the paper" if any(map(COMPARES.search, lines)) else "Details"
        yield f"## {heading}\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def own_options(cls: type, above: list[type], classes: dict[str, type], here: str = "") -> Iterator[str]:
    yield "## Options\n"
    mine = rows(cls, above[0] if above else None)
    if mine:
        yield from table(mine)
        yield ""
    if above:
        said = "Its other options are those" if mine else "It has no options of its own, but those"
        yield f"{said} of {link(above[0], classes, here)}."
    yield "`sslx plugins show` lists all options of a method in the terminal.\n"


# --- what was measured ------------------------------------------------------------------------------------------------


def result(row: dict[str, Any]) -> str:
    data = row["settings"]["dataset"]["use"]
    ((of, width),) = row["of"].items()
    cost = f"{row['settings']['subset']} training images, {row['cpu_seconds']:.0f} CPU-seconds, {row['steps']} steps"
    lines = [
        f"On {data}, by the {of} ({width} dimensions): {cost}, one seed, every other setting at its default. "
        f"By kNN {verdict(row, 'knn')}; by a linear probe {verdict(row, 'linear')}. "
        "[The index](index.md#measured) explains this budget, and how far it goes.\n",
        "| | kNN | linear |\n|---|---:|---:|",
    ]
    for who, label in FLOORS.items():
        lines.append(f"| {label} | " + " | ".join(number(row, who, score) for score in ("knn", "linear")) + " |")
    return "\n".join(lines)


def number(row: dict[str, Any], who: str, score: str) -> str:
    value = row.get(who, {}).get(score)
    return "–" if value is None else f"{value:.3f}"


def beaten(row: dict[str, Any], score: str = "knn") -> dict[str, bool]:
    """For each floor that has the score: whether the method is above it."""
    return {
        who: row["trained"][score] > row[who][score]
        for who in FLOORS
        if who != "trained" and score in row.get(who, {}) and score in row.get("trained", {})
    }


def verdict(row: dict[str, Any], score: str) -> str:
    """Which floors the method is above by a score."""
    parts = [
        f"{words} {listed([FLOORS[who] for who, above in beaten(row, score).items() if above is wanted], last)}"
        for words, last, wanted in (("above", "and", True), ("not above", "or", False))
        if wanted in beaten(row, score).values()
    ]
    return f"it is {' and '.join(parts)}"


# --- families and the index -------------------------------------------------------------------------------------------


def family(name: str, classes: dict[str, type]) -> Iterator[str]:
    cls = getattr(api, FAMILIES[name][0])
    above = parents(cls, classes)
    yield f"# {FAMILIES[name][1]}\n"
    yield f"`sslx.api.{cls.__name__}`, which methods extend.\n\n{prose(cls.__doc__)}\n"
    direct = [other for other in classes.values() if parents(other, classes)[:1] == [cls]]
    yield f"Methods of this family: {listed([link(other, classes, '../') for other in direct])}.\n" if direct else ""
    below = [getattr(api, other) for other, _ in FAMILIES.values()]
    below = [other for other in below if parents(other, classes)[:1] == [cls]]
    yield f"Families that extend it: {listed([link(other, classes, '../') for other in below])}.\n" if below else ""
    yield from own_options(cls, above, classes, "../")
    if any(row[0].startswith("encoder.") for row in rows(cls, above[0] if above else None)):
        link_to = "[Encoders](../../reference/encoders.md)"
        yield f"Options that begin with `encoder.` are those of the default network. {link_to} lists the others."


def group_of(name: str, classes: dict[str, type]) -> str:
    places = [f"{name}.md", *(homes(classes)[cls][0] for cls in parents(classes[name], classes))]
    above = {Path(place).stem for place in places}
    return next((group for group, members in reversed(GROUPS.items()) if above & set(members)), "Others")


def index(records: dict[str, Any], classes: dict[str, type], measured: dict[str, Any]) -> Iterator[str]:
    yield "# Methods\n"
    yield (
        f"sslx has {len(records)} methods. The page of each says when to use it, how to run it, its loss, its own "
        "options, and what differs from its paper. [Choose a method](../howto/choose-a-method.md) helps with the first "
        "step, and [the families](#families) document the options that methods share.\n"
    )
    for group in [*GROUPS, "Others"]:
        names = [name for name in records if group_of(name, classes) == group]
        if not names:
            continue
        yield f"## {group}\n\n| method | kNN | untrained | what it learns | paper |\n|---|---:|---:|---|---|"
        for name in names:
            cells = [number(measured.get(name, {}), who, "knn") for who in ("trained", "untrained")]
            cited = [SAID["papers"][key] for key in SAID["methods"][name]["papers"]]
            linked = [f"[{brief(paper)}]({paper['url']})" if "url" in paper else brief(paper) for paper in cited]
            cells += [sentence(records[name].summary), ", ".join(linked)]
            yield f"| [{name}]({name}.md) | {' | '.join(cells)} |"
        yield ""
    yield f"## Measured\n\n{explained(measured)}\n"
    yield "## Families\n"
    yield "A family is the wiring that several methods share, and that a method of your own can extend.\n"
    for name, (cls, title) in FAMILIES.items():
        first = one_line(paragraphs(getattr(api, cls).__doc__)[0])
        yield f"- [{title}](families/{name}.md): {first[0].lower()}{first[1:]}"
    yield "\n```{toctree}\n:hidden:\n:glob:\n*\nfamilies/*\n```"


def brief(paper: dict[str, Any]) -> str:
    surnames = [name.split()[-1] for name in paper["authors"].removesuffix(" et al.").split(", ")]
    more = "et al. " if len(surnames) > 2 or "et al." in paper["authors"] else ""
    who = surnames[0] if more else " & ".join(surnames)
    return f"{who} {more}{paper['year']}"


def explained(measured: dict[str, Any]) -> str:
    """What the numbers of the index are, and what they are not."""
    if not measured:
        return "Nothing has been measured yet."
    first = next(iter(measured.values()))["settings"]
    seconds = {round(row["cpu_seconds"], -1) for row in measured.values() if row["cpu_seconds"]}
    total = [row for name, row in measured.items() if name != "random" and beaten(row)]
    counts = {who: sum(beaten(row).get(who, False) for row in total) for who in FLOORS if who != "trained"}
    spent = listed([f"{int(each)}" for each in sorted(seconds)])
    return (
        f"The numbers are kNN accuracies on {first['dataset']['use']} with {first['subset']} training images and about "
        f"{spent} seconds of processor time for each method, with one seed and every other setting at its default. The "
        "same encoder without training is beside them. A dash means that the method has not been measured at this "
        "budget.\n\n"
        "This budget is small on purpose, so that all methods can be measured on two processor cores. It shows how "
        f"fast a method learns, and not how good it becomes: of {len(total)} methods {counts['untrained']} are above "
        f"their untrained encoder by then, {counts['pca']} above principal components and {counts['pixels']} above the "
        "pixels. A method below its untrained encoder need not be broken. Its loss has replaced what random features "
        "keep of an image, and has not yet learned as much from views: it usually needs more epochs, a larger network "
        "or other views. [Results](../results/index.md) has tables with longer trainings and several seeds, and "
        "`python benchmarks/methods.py` measures these again."
    )
