"""Conversion between dotted keys and nested tables: `prior.variance = 0.1` is `{"prior": {"variance": 0.1}}`.

A component in a table is either its name, or a table of its options with the name under `use`. Both mean the same.
"""

from collections.abc import Mapping
from typing import Any

from sslx.core.errors import ConfigError
from sslx.core.values import Text


def parse(setting: str) -> tuple[str, Text]:
    """Split `KEY=VALUE` into key and value. Raises ConfigError."""
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {setting}: expected KEY=VALUE, such as prior.variance=0.1")
    return key, Text(value)


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables from values by dotted keys. An option may come before or after its component."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        for name in reversed(key.split(".")):
            value = {name: value}
        result = overlay(result, value)
    return result


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted keys from nested tables: `{"prior": {"use": "mixture"}}` becomes `{"prior": "mixture"}`."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        key = prefix if name == "use" and prefix else f"{prefix}.{name}".lstrip(".")
        found |= flatten(value, key) if isinstance(value, Mapping) else {key: value}
    return found


def overlay(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """One table from two, where `new` wins. Options that were set before their component was chosen are kept."""
    result = dict(old)
    for name, value in new.items():
        before, after = _tables(name, result.get(name), value)
        both = isinstance(before, Mapping) and isinstance(after, Mapping)
        result[name] = overlay(before, after) if both else value
    return result


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """One table from several, where later ones win. Choosing another component drops the options of the one before."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before, after = _tables(name, result.get(name), value)
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                same = "use" not in after or after["use"] == before.get("use")
                value = merge(before, after) if same else dict(after)
            result[name] = value
    return result


def _tables(name: str, before: Any, after: Any) -> tuple[Any, Any]:
    """Both values as tables if one of them is a table. Raises ConfigError for options beside something else."""
    if isinstance(before, Mapping) and isinstance(after, str | type):
        after = {"use": after}
    if isinstance(after, Mapping) and isinstance(before, str | type):
        before = {"use": before}
    if isinstance(after, Mapping) and before is not None and not isinstance(before, Mapping):
        if isinstance(before, bool | int | float | list | tuple):
            raise ConfigError(f"{name}: is given as {before!r} and as a table of options, {dict(after)!r}")
        options = ", ".join(after)
        raise ConfigError(
            f"{options}: cannot be set beside {type(before).__name__}, which was given whole; set it there"
        )
    return before, after
