"""Help texts of options, in components and commands, are whole phrases that explain."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from sslx.cli import cli
from sslx.core.options import Component, interface_of, options_of
from sslx.core.training.config import RunConfig
from sslx.plugins.record import KINDS, Record
from sslx.plugins.registry import registry

#: A capital letter or a digit, three words or more, a full stop; and in brackets what holds without the option.
WHOLE = r"(?!of |OF )[A-ZÀ-Þ0-9(](?:\S*\s+){2,}.*\.(?:  \[[^\]]+\])*"


def records() -> Iterator[Record]:
    for kind in KINDS:
        for providers in registry().providers(kind).values():
            yield from (provider.record for provider in providers if provider.plugin.distribution == "sslx")


def groups(cls: type) -> Iterator[type]:
    """A class, and the classes of the groups of options that it always has."""
    yield cls
    for option in options_of(cls).values():
        interface = interface_of(option.type)
        if interface is not None and not interface.kind:
            yield from groups(interface)


def commands(group: click.Group = cli, above: str = "sslx") -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above} {name}")


def wrong(helps: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in helps.items() if not re.fullmatch(WHOLE, text, re.DOTALL)}


@pytest.mark.parametrize(
    "text",
    ["", "a", "of L_INV", "of the loss L_INV.", "Weight.", "Step size.", "weight of a loss.", "Weight of a loss"],
)
def test_fragments_are_not_whole(text: str) -> None:
    assert wrong({"option": text})


def test_options_of_components_have_whole_help_texts() -> None:
    classes: list[type[Component]] = [RunConfig]
    for record in records():
        if record.name != "problog":  # needs another package
            classes.append(registry().resolve(record.kind, f"sslx/{record.name}").cls)
    assert not wrong(
        {
            f"{each.__name__}.{option.name}": option.help
            for cls in classes
            for each in groups(cls)
            for option in options_of(each).values()
        }
    )


def test_options_of_commands_have_whole_help_texts() -> None:
    found = dict(commands())
    assert {"sslx run", "sslx plugins show", "sslx data preview"} <= found.keys()
    options = {
        f"{name} {option.opts[0]}": option.help or ""
        for name, command in found.items()
        for option in command.params
        if isinstance(option, click.Option)
    }
    assert not wrong(options | {name: command.get_short_help_str(1000) for name, command in found.items()})


def test_summaries_have_three_words() -> None:
    assert not [record for record in records() if len(record.summary.split()) < 3]
