"""Docstrings and options as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from generator.equations import typeset
from sslx.cli.plugins import option_rows

Row = tuple[str, ...]


def prose(doc: str | None) -> str:
    """A docstring as Markdown: equations are typeset, and the entries of a section such as `Args:` are a list."""
    lines = []
    for line in inspect.cleandoc(doc or "").splitlines():
        if entry := re.fullmatch(r"    (\w+): (.*)", line):
            line = f"- `{entry[1]}`: {entry[2]}"
        elif re.fullmatch(r"        \S.*", line) and lines and lines[-1].startswith(("- `", "  ")):
            line = f"  {line.strip()}"
        elif line in ("Args:", "Attributes:", "Raises:", "Returns:"):
            line = f"{line[:-1]}\n"
        lines.append(line)
    return typeset("\n".join(lines)).rstrip()


def sentence(text: str) -> str:
    """A summary as a sentence."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def rows(cls: type, beside: type | None = None) -> list[Row]:
    """The options of a class: name, what is expected, default and help. Without those that another class has, too."""
    known = set(option_rows(beside)) if beside is not None else set()
    return [row for row in option_rows(cls) if row not in known]


def table(options: Iterable[Row], flags: dict[str, str] | None = None) -> Iterator[str]:
    """Options as a table of three columns, which stays readable on a narrow page."""
    yield "| option | default | meaning |\n|---|---|---|"
    for name, expected, default, help_, *_ in options:
        flag = f" On the command line `{flags[name]}`." if flags and name in flags else ""
        yield f"| `{name}` | {code(default)} | {cell(help_)} *{cell(sentence(expected))}*{flag} |"


def code(text: str) -> str:
    """A default as it is written in a config."""
    if text == "required":
        return text
    if text in ("True", "False"):
        text = text.lower()
    if text.startswith("{'"):
        text = ", ".join(re.findall(r"'([\w-]+)': ", text))
    if text.startswith("(") and text.endswith(")"):
        text = f"[{text[1:-1].rstrip(',')}]"
    return f"`{cell(text)}`"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("$", "\\$")


def paragraphs(doc: str | None) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", inspect.cleandoc(doc or "")) if part.strip()]


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; an abbreviation such as "Eq. 3" or "et al." ends none."""
    text = " ".join(paragraph.split())
    return re.split(r"(?<=[.;:])(?<!Eq\.)(?<!App\.)(?<!Fig\.)(?<!al\.)(?<!e\.g\.)(?<=[.]) (?=[A-Z`\dα-ωΑ-Ωβ])", text)


def wrapped(lines: Iterable[str]) -> str:
    """Lines as the text of a page, in which prose takes at most 120 columns."""
    made, fenced = [], False
    for line in "\n".join(lines).splitlines():
        fenced ^= bool(re.match(r"[> ]*```|:::", line))
        start = re.match(r"(?:> )*(?:- )?", line)
        assert start is not None
        if len(line) <= 120 or fenced or line.startswith(("|", "#")) or "$" in line:
            made.append(line)
            continue
        after = start[0].replace("- ", "  ")
        cut = textwrap.wrap(line, 120, subsequent_indent=after, break_long_words=False, break_on_hyphens=False)
        marks = any(re.match(r"[-+*#>|]|\d+\.", each.removeprefix(after).lstrip()) for each in cut[1:])
        made += [line] if marks else cut
    return re.sub(r"\n{3,}", "\n\n", "\n".join(made)).rstrip() + "\n"


def listed(items: Sequence[str], last: str = "and") -> str:
    return ", ".join(items[:-1]) + f" {last} {items[-1]}" if len(items) > 1 else "".join(items)


def settings(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Nested settings as `--set` takes them."""
    for name, value in values.items():
        key = prefix if name == "use" else f"{prefix}.{name}".removeprefix(".").removeprefix("method.")
        if isinstance(value, dict) and value:
            yield from settings(value, key)
        else:
            shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"`{key}={str(shown).lower() if isinstance(shown, bool | None) else shown}`"
