"""TOML files, read by the standard library (tomli before Python 3.11) and written by tomli-w."""

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import TOMLDecodeError, loads
else:
    from tomli import TOMLDecodeError, loads

from tomli_w import dumps

from sslx.core.errors import ConfigError

__all__ = ["TOMLDecodeError", "dumps", "loads", "read"]


def read(path: Path) -> dict[str, Any]:
    """Read a file as a table. Raises ConfigError with the file and, if it is not valid TOML, the line."""
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: cannot be read (it is not a file)")  # a pipe would block
    try:
        return loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:  # such as an integer of 5000 digits, or 3000 nested brackets
        reason, advice = str(error)[:200], ""
        if "overwrite a value" in reason:  # prior = "mixture", prior.components = 10
            advice = '; a part with options is a table, such as prior = { use = "mixture", components = 10 }'
        raise ConfigError(f"{path}: not valid TOML: {reason}{advice}") from error
