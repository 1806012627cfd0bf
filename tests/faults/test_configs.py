"""Configs that are wrong in every place: one clear line for each mistake, never another kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sslx.core.dotted import nest
from sslx.core.errors import ConfigError
from sslx.core.options import to_dict
from sslx.core.training.config import RunConfig, configure, unlayer
from sslx.core.values import Text
from sslx.runs.plan import plan

#: Values that hardly any option takes.
VALUES: tuple[Any, ...] = (
    "x", "", "\0", "a\nb", "\x1b[2J", "x" * 5000, "./none.py:X", "os:system", -1, 0, 10**30, 1.5, float("nan"),
    float("inf"), True, [], [[1]], ["x", 1], {}, {"use": 5}, {"use": "none"}, {"x": {"y": 1}}, b"x", object(),
)  # fmt: skip
TEXTS = (
    "",
    "x",
    "[",
    "{",
    "[[[",
    '"',
    "1e999",
    "-0",
    "none",
    "true,false",
    "1,,2",
    "{use=5}",
    "x\ny=1",
    "\0",
    "9" * 5000,
)
METHODS = ("vae", "simclr", "gedi")


def _settings(method: str) -> dict[str, Any]:
    return unlayer(to_dict(configure({"method": method})))


def _wrong(method: str) -> Iterator[tuple[str, Any]]:
    for number, key in enumerate(_settings(method)):
        for value in VALUES[number % 3 :: 3]:  # a third of them each, all of them over three options
            yield key, value


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_config_refuses_what_it_does_not_take(method: str) -> None:
    tried = refused = 0
    for key, value in _wrong(method):
        dotted = key if key.split(".")[0] in ("dataset", "views", "loader", "train", "evaluators") else f"method.{key}"
        tried += 1
        try:
            assert isinstance(configure({"method": {"use": method}}, nest({dotted: value})), RunConfig)
        except ConfigError as error:
            refused += 1
            assert error.problems and all(line and "\n" not in line and len(line) < 1500 for line in error.problems), (
                key
            )
    assert tried > 300 and refused > tried / 2


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_the_command_line_refuses_what_it_does_not_take(method: str) -> None:
    for key in _settings(method):
        for text in TEXTS:
            try:
                plan({key: Text(text)}, methods=[method])
            except ConfigError as error:
                assert error.problems and all(line and "\n" not in line for line in error.problems), (key, text)
