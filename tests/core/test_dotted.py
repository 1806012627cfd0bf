"""Dotted keys and tables say the same thing, whatever the order in which they come."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from sslx.core.dotted import flatten, merge, nest, overlay, parse
from sslx.core.errors import ConfigError

KEYS = {"method": "simvae", "method.prior": "mixture", "method.prior.components": 3, "train.epochs": 2, "seed": 1}
TABLE = {
    "method": {"use": "simvae", "prior": {"use": "mixture", "components": 3}},
    "train": {"epochs": 2},
    "seed": 1,
}


def test_keys_become_tables_in_any_order() -> None:
    for keys in itertools.permutations(KEYS):
        assert nest({key: KEYS[key] for key in keys}) == TABLE


def test_tables_become_keys() -> None:
    assert flatten(TABLE) == KEYS
    assert nest(flatten(TABLE)) == TABLE


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([{"a": {"use": "x", "n": 1}}, {"a": {"m": 2}}], {"a": {"use": "x", "n": 1, "m": 2}}),
        ([{"a": {"use": "x", "n": 1}}, {"a": "x"}], {"a": {"use": "x", "n": 1}}),
        ([{"a": {"use": "x", "n": 1}}, {"a": "y"}], {"a": {"use": "y"}}),  # its options were for another component
        ([{"a": "x"}, {"a": {"n": 1}}], {"a": {"use": "x", "n": 1}}),
        ([{"a": 1}, {"a": 2}, {"b": 3}], {"a": 2, "b": 3}),
    ],
)
def test_later_layers_win(layers: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert merge(*layers) == expected


def test_an_overlay_keeps_options_that_came_before_their_component() -> None:
    assert overlay({"a": {"n": 1}}, {"a": "x"}) == {"a": {"n": 1, "use": "x"}}


def test_nothing_that_is_merged_is_changed() -> None:
    one, two = {"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}
    assert merge(one, two) == overlay(one, two) == {"a": {"b": {"c": 1, "d": 2}}}
    assert one == {"a": {"b": {"c": 1}}} and two == {"a": {"b": {"d": 2}}}


@pytest.mark.parametrize("setting", ["a", "=1", "a..b=1", ".a=1", ""])
def test_what_is_not_a_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse(setting)
    assert parse(" a.b = c=d ") == ("a.b", " c=d ")


def test_a_value_beside_a_table_of_options_is_refused() -> None:
    with pytest.raises(ConfigError, match="a: is given as 1 and as a table of options, {'b': 2}"):
        merge({"a": 1}, {"a": {"b": 2}})
