"""Protocols: the evaluators by which a paper scores, with its options, each in a TOML file beside the evaluators."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from sslx.core.console import say
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError, nearest
from sslx.core.toml import read


def protocols() -> dict[str, Path]:
    """The files of the protocols that come with sslx, by name."""
    folder = Path(str(files("sslx.evaluators") / "protocols"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def with_protocol(name: str, evaluators: Mapping[str, Any]) -> dict[str, Any]:
    """A table of evaluators with those of a protocol, whose options are below the ones that the table has.

    Says the source of the protocol. Raises ConfigError if there is none, or if its file is wrong.

    Args:
        name: the name of a protocol, or a TOML file with a `source` and tables such as `[evaluators.knn]`.
    """
    source, own = protocol_table(name)
    say(f"protocol {name}: {source}")
    return merge(own, evaluators)


def protocol_table(name: str) -> tuple[str, dict[str, Any]]:
    """The source of a protocol and its table of evaluators. Raises ConfigError as `with_protocol` does."""
    known = protocols()
    path = Path(name) if name.endswith(".toml") else known.get(name)
    if path is None:
        raise ConfigError(f"--protocol: there is no protocol {name!r}{nearest(name, known)}")
    table = read(path)
    source, own = table.pop("source", None), table.pop("evaluators", None)
    if not isinstance(source, str) or not own or not isinstance(own, dict) or table:
        raise ConfigError(f"{path}: expected `source`, a text, and tables such as [evaluators.knn], and nothing else")
    return source, own
