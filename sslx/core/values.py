"""Plain values of options: conversion to a type, and types in words."""

import math
import operator
import os
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Union

from sslx.core.toml import TOMLDecodeError, loads

_LIMITS = {"gt": (">", operator.gt), "ge": (">=", operator.ge), "lt": ("<", operator.lt), "le": ("<=", operator.le)}
_ACCEPTED = {bool: (bool,), int: (int,), float: (int, float), str: (str, Path), Path: (str, Path)}
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "text", Path: "a path", type(None): "none"}


class Text(str):
    """A value from the command line. Its meaning depends on the type of the option that receives it."""


def read(value: Any, hint: Any, limits: Mapping[str, float] = {}) -> Any:
    """Convert `value` to the type `hint` and check its limits. Raises ValueError."""
    for reading in _readings(value):
        try:
            result = _read(reading, hint)
        except (ValueError, OverflowError):
            continue
        if _within(result, limits):
            return result
    raise ValueError(value)


def describe(hint: Any, limits: Mapping[str, float] = {}) -> str:
    """A type and its limits in words, such as `a number > 0`."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and members[-1] is Ellipsis:
        return f"a list, each item {describe(members[0], limits)}"
    if origin is tuple:
        return f"a list of {len(members)}, each item {describe(members[0], limits)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe(m, limits if m in (int, float) else {}) for m in members)
    if origin is Literal:
        text = "one of " + ", ".join(str(member) for member in members)
    else:
        text = _WORDS.get(hint, getattr(hint, "__name__", str(hint)))
    bounds = " and ".join(f"{_LIMITS[name][0]} {limit:g}" for name, limit in limits.items())
    return f"{text} {bounds}".rstrip()


def _readings(value: Any) -> Iterator[Any]:
    """The possible meanings of a value, most likely first."""
    if not isinstance(value, Text):
        yield value
        return
    for text in (value, f"[{value}]"):
        try:
            table = loads(f"value = {text}")
        except (TOMLDecodeError, ValueError, RecursionError):
            continue
        if len(table) == 1:  # text with a line break could define further keys
            yield table["value"]
    yield str(value)
    yield [part.strip() for part in value.split(",")]


def _read(value: Any, hint: Any) -> Any:
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in members or type(value) is not type(members[members.index(value)]):
            raise ValueError(value)
        return value
    if origin in (Union, types.UnionType):
        for member in sorted(members, key=lambda member: member is not type(None)):  # "none" is not a text
            with suppress(ValueError):
                return _read(value, member)
        raise ValueError(value)
    if hint is type(None):
        if value is None or value == "none":  # TOML has no null
            return None
        raise ValueError(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(value)  # a string is not a list of letters
        if members[-1] is Ellipsis:
            members = (members[0],) * len(value)
        if len(members) != len(value):
            raise ValueError(value)
        return tuple(_read(item, member) for item, member in zip(value, members, strict=True))
    if hint not in _ACCEPTED:
        raise TypeError(f"an option cannot be of type {hint}")
    if isinstance(value, bool) is not (hint is bool) or not isinstance(value, _ACCEPTED[hint]):
        raise ValueError(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)  # no option accepts inf or nan
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError(value)  # neither TOML nor a tensor holds it
    if hint is Path:
        if not usable(str(value)):
            raise ValueError(value)
        value = os.path.abspath(Path(str(value)).expanduser())  # a config means the same from any folder
    if isinstance(value, str):
        value.encode()  # raises a ValueError for names of files that are not UTF-8, which TOML cannot hold
    return hint(value)


def usable(path: str | Path) -> bool:
    """Whether a path is one that a file can have, on any common file system, whether or not there is a file."""
    try:
        whole = os.fsencode(Path(path).expanduser())
    except (RuntimeError, UnicodeEncodeError):  # ~nobody, or a lone surrogate
        return False
    return b"\0" not in whole and len(whole) < 4096 and all(len(part) < 256 for part in whole.split(b"/"))


def _within(value: Any, limits: Mapping[str, float]) -> bool:
    if isinstance(value, tuple):
        return all(_within(item, limits) for item in value)
    if not limits or value is None or not isinstance(value, int | float):
        return True
    return all(_LIMITS[name][1](value, limit) for name, limit in limits.items())
