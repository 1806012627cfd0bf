"""Equations of docstrings, which are written for a terminal, as LaTeX for the site.

The notation of sslx's docstrings is small: Unicode letters, superscripts and subscripts, `L_INV` for a name with a
subscript, √(...) for a root, words of English between the symbols, and at least three spaces before a remark. An
indented block whose lines begin with `name:` is a list of names, one with `::` is a program, one with quotation marks
is shown as it is, and one that ends with a full stop is prose.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator

WIDTH = 64  # characters of the docstring that fit into a line of the page
FUNCTIONS = {"log", "ln", "exp", "max", "min", "cos", "sin", "det"}
OPERATORS = {"softmax", "logsumexp", "argmax", "argmin", "sg", "Var", "Cov", "KL", "ELBO"}
WORDS = {"mean", "normalized", "objective", "loss", "logits", "centroid"}  # operators, unless words surround them
SYMBOLS = {
    "Σ": r"\sum", "Π": r"\prod", "∫": r"\int", "∇": r"\nabla", "·": r"\cdot", "×": r"\times", "≠": r"\ne",
    "≤": r"\le", "≥": r"\ge", "←": r"\leftarrow", "→": r"\to", "∝": r"\propto", "‖": r"\Vert", "∞": r"\infty",
    "∈": r"\in", "…": r"\dots", "~": r"\sim", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#",
    "|": r"\vert", "±": r"\pm", "<": r"\lt", ">": r"\gt", "ε": r"\varepsilon", "E": r"\mathbb{E}",
    ">=": r"\ge", "<=": r"\le", "√": r"\surd",
}  # fmt: skip
ACCENTS = {"\u0304": "bar", "\u0303": "tilde", "\u0302": "hat"}
TOKEN = re.compile(
    r"(?P<named>[^\W\d_]['′]?_[A-Za-z]+)"
    r"|(?P<group>_\{[^}]*\})"
    r"|(?P<accented>[^\W\d_]['′]?[\u0302-\u0304])"
    r"|(?P<code>`[^`]*`)"
    r"|(?P<reference>\((?:[A-Z]\w*, )?(?:Eq|App|Fig|Sec)\.[^)]*\))"
    r"|(?P<word>[A-Za-z]{2,}(?:-[a-z]+)*\.?|(?<= )a(?= [a-z]{2}))"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<symbol>>=|<=|\S)"
)


def typeset(doc: str) -> str:
    """A docstring as Markdown, in which every indented block is LaTeX, a list of names, a program or prose."""
    return re.sub(r"(?:^ {4,}\S.*(?:\n|$))+", lambda found: f"{block(found[0])}\n", doc, flags=re.MULTILINE)


def block(text: str) -> str:
    if re.match(r"\s*[\w.:-]+(?:, [\w.-]+)*: ", text):
        entries = re.sub(r"\n {8,}", " ", text.rstrip()).splitlines()
        return "\n".join(re.sub(r"^\s*(.+?): ", lambda m: f"- {names(m[1])}: ", entry) for entry in entries)
    if "::" in text:
        return f"```prolog\n{text.strip()}\n```"
    if '"' in text:
        return f"```text\n{textwrap.dedent(text).strip()}\n```"
    if text.rstrip().endswith("."):
        return textwrap.dedent(text).strip()
    return equations([re.sub(r",\s{3,}", ", ", line.strip()) for line in text.strip().splitlines()])


def names(text: str) -> str:
    return ", ".join(f"`{name}`" for name in text.split(", "))


def equations(lines: list[str]) -> str:
    """Lines as one block of LaTeX, or as a list if some of them have remarks."""
    split = [re.split(r"\s{3,}", line, maxsplit=1) for line in lines]
    if all(len(parts) == 1 or re.fullmatch(r"\([^()]*\)", parts[1]) for parts in split):
        body = "\\\\\n".join(rf"& {row}" for parts in split for row in rows_of(*parts))
        return f"```{{math}}\n\\begin{{aligned}}\n{body}\n\\end{{aligned}}\n```"
    return "\n".join(
        f"- ${latex(first)}$" + "".join(f" {part}" if part[0] == "(" else f", {part}" for part in rest)
        for first, *rest in split
    )


def rows_of(equation: str, number: str = "") -> Iterator[str]:
    """An equation as rows that fit into a line; its number is at the end of the last one."""
    pieces = [cut for part in parted(equation, ", ") for cut in shortened(part)]
    rows = [[pieces[0]]]
    for piece in pieces[1:]:
        if sum(map(len, rows[-1])) + len(piece) > WIDTH or piece[:2] in ("+ ", "- "):
            rows.append([])
        rows[-1].append(piece)
    for row in rows:
        lead = r"\qquad " if row[0][:2] in ("+ ", "- ") else ""
        tail = rf" \qquad \text{{{number}}}" if number and row is rows[-1] else ""
        yield lead + r" \quad ".join(map(latex, row)) + tail


def parted(text: str, at: str) -> list[str]:
    """A text cut after each `at` that is outside of brackets."""
    found, depth = [""], 0
    for i, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        found[-1] += character
        if not depth and text[: i + 1].endswith(at):
            found.append("")
    return [part.strip() for part in found if part.strip()]


def shortened(text: str) -> Iterator[str]:
    """A part that is too long for a line, cut before signs outside of brackets."""
    if len(text) <= WIDTH + 6:
        yield text
        return
    kept, depth, last = "", 0, 0
    for i, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if not depth and text[i : i + 3] in (" + ", " - ") and (last or i > WIDTH // 3):
            if last and i - last <= WIDTH // 2:
                continue
            yield text[last:i].strip()
            last = i
    kept = text[last:].strip()
    yield kept


def latex(text: str) -> str:
    """An equation of a docstring in LaTeX."""
    out: list[str] = []
    words: list[str] = []
    for match in TOKEN.finditer(f"{text} "):
        kind, token = match.lastgroup or "", match[0]
        is_text = kind == "word" and token not in FUNCTIONS | OPERATORS and (token not in WORDS or bool(words))
        if is_text:
            words.append(token)
        elif words and token in (",", ";", ":", "."):
            words[-1] += token
        else:
            out += [rf"\text{{ {' '.join(words)} }}"] if words else []
            words.clear()
            out.append(piece(kind, token))
    out += [rf"\text{{ {' '.join(words)} }}"] if words else []
    return tidy(" ".join(out))


def piece(kind: str, token: str) -> str:
    if kind == "named":
        name, index = token.split("_", 1)
        index = rf"\text{{{index}}}" if len(index) > 2 and index.isupper() else " ".join(map(symbol, index))
        return f"{symbol(name[0])}{name[1:]}_{{{index}}}"
    if kind == "group":
        return f"_{{{latex(token[2:-1])}}}"
    if kind == "accented":
        return rf"\{ACCENTS[token[-1]]}{{{symbol(token[0])}}}{token[1:-1]}"
    if kind == "code":
        return rf"\text{{{token[1:-1]}}}"
    if kind == "reference":
        return rf"\quad \text{{{token}}}"
    if kind == "word":
        return rf"\{token}" if token in FUNCTIONS else rf"\operatorname{{{token}}}"
    return symbol(token)


def symbol(token: str) -> str:
    if token in SYMBOLS or len(token) > 1:
        return SYMBOLS.get(token, token)
    name = unicodedata.name(token, "")
    if "SUPERSCRIPT" in name or "SUBSCRIPT" in name or "MODIFIER LETTER" in name:
        plain = symbol(unicodedata.normalize("NFKC", token)).replace("−", "-")
        return f"_{{{plain}}}" if "SUBSCRIPT" in name else f"^{{{plain}}}"
    if name.startswith("GREEK"):
        letter = name.split()[-1].replace("LAMDA", "LAMBDA")
        return f"\\{letter.lower() if 'SMALL' in name else letter.capitalize()}"
    return token


def tidy(text: str) -> str:
    """Scripts at their base and joined, a prime among them; parentheses of a root as braces."""
    text = re.sub(r"\s+([\^_]\{|')", r"\1", text)
    for sign in "^_":
        joined = None
        while joined != text:
            joined, text = text, re.sub(rf"\{sign}\{{([^{{}}]*)\}}\{sign}\{{([^{{}}]*)\}}", rf"{sign}{{\1 \2}}", text)
    text = re.sub(r"'((?:_\{[^{}]*\})?)\^\{([^{}]*)\}", r"\1^{\\prime \2}", text)
    text = re.sub(r"(?<=\w) \*(?!\w)", "^*", text)
    if (start := text.find(r"\surd (")) >= 0:
        depth = 0
        for end in range(start + 6, len(text)):
            depth += (text[end] == "(") - (text[end] == ")")
            if not depth:
                inner = text[start + 7 : end].strip()
                return rf"{text[:start]}\sqrt{{{inner}}}{tidy(text[end + 1 :])}"
    return re.sub(r" (?=[,;)\]])|(?<=[(\[]) ", "", text)
