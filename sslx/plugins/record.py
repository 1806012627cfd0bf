"""Records, with which a plugin describes its components without importing them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import attrs

__all__ = [
    "Record", "command", "constraint", "dataset", "decoder", "encoder", "energy", "evaluator", "likelihood", "loader",
    "method", "objective", "optimizer", "posterior", "prior", "study", "tracker", "views",
]  # fmt: skip
KINDS: list[str] = []  # in the order of lists
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _matches(pattern: re.Pattern[str], example: str) -> Callable[..., None]:
    def check(record: Record, field: attrs.Attribute[str], value: str) -> None:
        if not isinstance(value, str) or len(value) > 200 or not pattern.fullmatch(value):
            raise ValueError(f"{record.kind} record: {field.name} must look like {example!r}, got {value!r:.200}")

    return check


@attrs.frozen
class Record:
    """Description of one component of a plugin.

    `target` is "module:Class", which is imported only when the component is used. `summary` and `paper` are for lists.
    `reads` is a file ending such as ".pl": the reference `./rules.pl` then is this component with the file as argument.
    """

    kind: str
    name: str = attrs.field(validator=_matches(_NAME, "my-prior"))
    target: str = attrs.field(validator=_matches(_TARGET, "my_package.module:Class"))
    summary: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    paper: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    reads: str = attrs.field(default="", validator=attrs.validators.instance_of(str))


def _kind(kind: str) -> Callable[..., Record]:
    KINDS.append(kind)
    record: Callable[..., Record] = functools.partial(Record, kind)
    article = "an" if kind[0] in "aeiou" else "a"
    record.__doc__ = (
        f'A record of {article} {kind}: `{kind}("name", "module:Class", summary="...", paper="arXiv:...")`.'
    )
    return record


method = _kind("method")
encoder = _kind("encoder")
posterior = _kind("posterior")
decoder = _kind("decoder")
likelihood = _kind("likelihood")
prior = _kind("prior")
objective = _kind("objective")
energy = _kind("energy")
constraint = _kind("constraint")
dataset = _kind("dataset")
loader = _kind("loader")
views = _kind("views")
optimizer = _kind("optimizer")
evaluator = _kind("evaluator")
tracker = _kind("tracker")
study = _kind("study")
command = _kind("command")
