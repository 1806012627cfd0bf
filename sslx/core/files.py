"""Files that appear whole or not at all, and JSON files that show whether they are as they were written.

A run folder may come from somebody else. So nothing is written through a link, and what is read must have the expected
shape.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslx.core.errors import CheckpointError, ConfigError

_SEAL = "sha256"  # the key of a JSON file that holds the hash of all the others
_WORDS = {dict: "a table", list: "a list", str: "text", int: "an integer", float: "a number", bool: "true or false"}


def replace(path: Path, content: str | bytes) -> None:
    """Write a file through a draft beside it, which is created exclusively. A link at `path` is replaced."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)  # of a process that was killed
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def links(folder: Path) -> list[Path]:
    """The links at any depth of a folder, and what is neither a file nor a folder, such as a pipe."""
    found = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            found += links(Path(entry.path))
        elif not entry.is_file(follow_symlinks=False):
            found.append(Path(entry.path))
    return found


def digest(value: Any) -> str:
    """Hash of plain values, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(values: Mapping[str, Any]) -> str:
    """The text of a JSON file with a hash of its content."""
    return json.dumps({**values, _SEAL: digest(plain(values))}, indent=1) + "\n"


def plain(values: Any) -> Any:
    """Values as a JSON file returns them: tuples are lists, all keys are text."""
    return json.loads(json.dumps(values))


def read(path: Path, shape: Mapping[str, Any]) -> dict[str, Any] | None:
    """A JSON file, without its hash; None if there is none. Raises CheckpointError if it is damaged.

    Args:
        shape: as `misfit` takes it. A file without a hash, as version 0.1 wrote it, may have no other keys.
    """
    if not os.path.lexists(path):
        return None
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from error
    seal = values.pop(_SEAL, None) if isinstance(values, dict) else None
    if seal is not None and seal != digest(values):
        raise CheckpointError(f"{path}: damaged: it is not what was written")
    problem = misfit(values, shape)
    if not problem and seal is None and (unknown := values.keys() - {name.removesuffix("?") for name in shape}):
        problem = f"{min(unknown)} is unknown"
    if problem:
        raise CheckpointError(f"{path}: damaged: {problem}")
    return dict(values)


def misfit(value: Any, shape: Any, where: str = "") -> str:
    """What is wrong with a value that was read, in words; empty if it has the shape.

    A shape is a type, `[shape]` for a list, `{str: shape}` for a table with any keys, or a table of keys with their
    shapes, of which those that end in ? may be missing.
    """
    kind: Any = shape if isinstance(shape, type) else type(shape)
    accepted: Any = (int, float) if kind is float else kind
    fits: bool = isinstance(value, accepted) and (kind in (bool, object) or not isinstance(value, bool))
    if not fits:
        return f"{where or 'the content'} is {repr(value)[:50]}, expected {_WORDS[kind]}"
    parts: dict[str, tuple[Any, Any]] = {}
    if isinstance(shape, list):
        parts = {f"{where}[{i}]": (item, shape[0]) for i, item in enumerate(value)}
    elif isinstance(shape, dict):
        if str in shape:
            shape = {f"{name}?": shape[str] for name in value}
        for name, inner in shape.items():
            name, optional = name.removesuffix("?"), name.endswith("?")
            dotted = f"{where}.{name}".lstrip(".")
            if name in value:
                parts[dotted] = value[name], inner
            elif not optional:
                return f"{dotted} is missing"
    return next((said for name, (item, inner) in parts.items() if (said := misfit(item, inner, name))), "")


def untangled(folder: Path) -> None:
    """Raise ConfigError if a folder, into which something will be written, holds a link or a pipe."""
    if found := links(folder):
        raise ConfigError(
            f"{found[0]}: is a link or not a file, and nothing is written through it; "
            "put the file or folder itself in its place"
        )
