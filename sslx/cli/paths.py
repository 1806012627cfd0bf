"""Options that are paths, without the imports of `sslx.cli.arguments`, so that `sslx plugins` stays fast."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from sslx.core.values import usable


class _Path(click.Path):
    """A path that the file system can hold."""

    def convert(self, value: Any, parameter: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not usable(value):
            self.fail(f"{str(value)[:200]!r} cannot be the path of a file", parameter, ctx)
        return super().convert(value, parameter, ctx)


PATH = _Path(path_type=Path)
NEW_FILE = _Path(path_type=Path, dir_okay=False)
NEW_FOLDER = _Path(path_type=Path, file_okay=False)


class Renamed(click.Option):
    """An option that is also taken under its older name, which help and errors do not show."""

    def __init__(self, names: Sequence[str], older: str, **facts: Any) -> None:
        super().__init__(names, **facts)
        self.older = older

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        shown, self.opts = self.opts, [*self.opts, self.older]
        super().add_to_parser(parser, ctx)
        self.opts = shown


def out_option(name: str, **facts: Any) -> Callable[..., Any]:
    """The option `--out` of a command, for what it writes, as its parameter `name`."""
    return click.option("--out", "-o", name, cls=Renamed, older="--to", **facts)
