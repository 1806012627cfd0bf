"""The one place that imports the code of components, and that decides which code may be executed.

The code of installed plugins may always be executed. Other modules and single files are executed if the user named
them. If only the files of a run name them, which somebody else may have written, the user must trust these files.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from sslx.core import signals
from sslx.core.console import say
from sslx.core.errors import PluginError, nearest

#: Whether the user trusts the files of a run, from which references are being read; None for the user's own references.
_TRUST: ContextVar[bool | None] = ContextVar("trust", default=None)
_FILE = "sslx_file_"  # prefix of the names of modules that are imported from single files


class Gate:
    """Decides whether code that no installed plugin provides may be executed."""

    def __init__(self) -> None:
        self.vouched: set[str] = set()  # references to code that the user allowed

    def vouch(self, texts: Iterable[Any]) -> None:
        """Allow the code that these texts name."""
        for text in texts:
            if isinstance(text, str):
                name, _, argument = text.partition(":")
                self.vouched.add(f"{whole(name)}:{argument}" if name.endswith(".py") else text)

    @contextmanager
    def on_record(self, trust: bool) -> Iterator[None]:
        """Treat references inside as read from the files of a run, which the user trusts or not."""
        token = _TRUST.set(trust)
        try:
            yield
        finally:
            _TRUST.reset(token)

    def admit(self, reference: str, file: Path | None = None) -> None:
        """Raise PluginError if the code of a reference, which may be in a file, must not be executed."""
        trust = _TRUST.get()
        if reference in self.vouched:
            return
        if trust is False:
            raise PluginError(
                f"{reference} is code that the files of a run name, so it is not executed; if you trust it, add "
                "--trust-code (in Python trust_code=True)"
            )
        if trust and file is not None and file.is_file():
            say(f"trusted: {file}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
        self.vouched.add(reference)


def whole(path: str) -> Path:
    """An absolute path, so that a run's config works from any folder. Raises PluginError if no file can have it."""
    from sslx.core.values import usable  # reads TOML, which a list of plugins does not need

    if not usable(path):
        raise PluginError(f"{path[:200]!r} cannot be the path of a file")
    found = Path(path).expanduser().resolve()
    try:
        str(found).encode()
    except UnicodeEncodeError as error:
        raise PluginError(f"{path!r}: expected a path of UTF-8 characters, as a config cannot hold others") from error
    return found


def is_reference(text: str) -> bool:
    """Whether a text names a class in a file or a module, `./file.py:Class`, and not a registered component."""
    module, _, name = text.partition(":")
    return module.endswith(".py") or bool(name and "." in module)


def module_class(module: str, name: str, origin: str) -> type:
    """A class of a module. Raises PluginError, which begins with `origin`."""
    try:
        found = importlib.import_module(module)
    except BaseException as error:
        if signals.stops(error):
            raise
        raise PluginError(f"{origin}: module {module} cannot be imported: {reason(error)}") from error
    return _attribute(found, name, origin)


def file_class(path: Path, name: str, origin: str) -> type:
    """A class of a single file, whose module gets a name so that objects of the class can be pickled.

    Raises PluginError.
    """
    if not path.is_file():
        raise PluginError(f"{path}: no such file")
    module_name = f"{_FILE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[module_name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            if signals.stops(error):
                raise
            del sys.modules[module_name]
            lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == str(path)]
            where = f"{path}:{lines[-1]}" if lines else path
            raise PluginError(f"{where}: cannot be imported: {reason(error)}") from error
    return _attribute(sys.modules[module_name], name, origin)


def _attribute(module: types.ModuleType, name: str, origin: str) -> type:
    try:
        value: type = getattr(module, name)
        return value
    except AttributeError:
        classes = [k for k, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise PluginError(f"{origin}: there is no {name!r} in it{nearest(name, classes)}") from None


def reference(cls: type) -> str:
    """`FILE.py:Class` for a class that was imported from a single file, `module:Class` for others."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return f"{file if cls.__module__.startswith(_FILE) else cls.__module__}:{cls.__qualname__}"


def reason(error: BaseException) -> str:
    """What went wrong during an import, in one line."""
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else error.code}) when imported"
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".rstrip(": ")
