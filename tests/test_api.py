"""What plugins may import is what tests/api.txt says. `python tests/test_api.py` writes it anew.

A line that goes, or an argument that is new and required, breaks plugins: that is for another version of the API.
"""

from __future__ import annotations

import difflib
import enum
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import sslx.api
from sslx.core.options import Component, options_of
from sslx.plugins import hookspecs

SNAPSHOT = Path(__file__).parent / "api.txt"
_SPECIAL = ("__call__", "__len__", "__getitem__")


def snapshot() -> str:
    hooks = [f"def {name}{signature(hook)}" for name, hook in vars(hookspecs).items() if name.startswith("sslx_")]
    lines = [line for name in names() for line in described(name)]
    return "\n".join([f"sslx.api, entry points {hookspecs.GROUP}", *lines, "", "hooks:", *hooks]) + "\n"


def names() -> list[str]:
    return [name for name in dir(sslx.api) if not name.startswith("_")]


def described(name: str) -> Iterator[str]:
    value = getattr(sslx.api, name)
    yield ""
    if not isinstance(value, type):
        yield f"def {name}{signature(value)}" if name != "hookimpl" else "hookimpl, of pluggy"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield f"class {name}({bases})"
    if issubclass(value, Component):
        options = options_of(value).values() if attrs.has(value) else ()
        yield from (f"    option {o.name}: {o.expected}{'' if o.slot is None else ', a slot'}" for o in options)
    elif issubclass(value, enum.Enum):
        yield f"    {', '.join(value.__members__)}"
    elif attrs.has(value) or "__init__" in vars(value) or issubclass(value, tuple):
        yield f"    {name}{signature(value)}"
    for key, member in sorted(vars(value).items()):
        if key.startswith("_") and key not in _SPECIAL:
            continue
        if isinstance(member, property):
            yield f"    {key}: property"
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            yield f"    def {key}{signature(getattr(value, key))}"
        elif key in ("kind", "must_define", "best", "exit_code") and not inspect.isdatadescriptor(member):
            yield f"    {key} = {member!r}"


class _Written:
    """An annotation as it stands in the source."""

    def __init__(self, annotation: Any) -> None:
        self.text = getattr(annotation, "__forward_arg__", annotation)

    def __repr__(self) -> str:
        return self.text if isinstance(self.text, str) else inspect.formatannotation(self.text)


def signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = [
        p if p.annotation is p.empty else p.replace(annotation=_Written(p.annotation))
        for p in found.parameters.values()
    ]
    returns = found.return_annotation
    return str(
        found.replace(parameters=parameters, return_annotation=returns if returns is found.empty else _Written(returns))
    )


def test_the_api_is_what_its_snapshot_says() -> None:
    before, now = SNAPSHOT.read_text().splitlines(), snapshot().splitlines()
    changes = list(difflib.unified_diff(before, now, "tests/api.txt", "sslx.api", lineterm="", n=2))
    assert not changes, "`python tests/test_api.py` writes it anew\n" + "\n".join(changes)


def test_every_name_of_the_api_is_documented() -> None:
    silent = [name for name in names() if not inspect.getdoc(getattr(sslx.api, name))]
    assert silent == []
    components = [value for name in names() if inspect.isclass(value := getattr(sslx.api, name))]
    assert all(value.__doc__ for value in components), "a docstring of its own, not that of its base"


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
