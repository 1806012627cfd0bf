"""TOML, read by the standard library (tomli before Python 3.11) and written by tomli-w."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import TOMLDecodeError, loads
else:
    from tomli import TOMLDecodeError, loads

from sslx.core.errors import ConfigError

__all__ = ["TOMLDecodeError", "dumps", "loads", "read"]


def dumps(data: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(data)


def read(path: Path) -> dict[str, Any]:
    """The file as a table. Raises ConfigError that names the file and, where it is no TOML, the line."""
    try:
        return loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # such as an integer of 5000 digits, or 3000 nested brackets
        raise ConfigError(f"{path}: not valid TOML: {str(error)[:200]}") from error
