"""`sslx plugins`: lists, explains, writes and checks plugins. Imports torch only to show or check components."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from sslx.cli.layout import columns, echo, filled, prose
from sslx.cli.paths import NEW_FOLDER, out_option
from sslx.core import signals
from sslx.core.catalogue import catalogue
from sslx.core.errors import ConfigError, SslxError, nearest
from sslx.plugins import code
from sslx.plugins.record import KINDS, Record
from sslx.plugins.registry import Provider, registry
from sslx.plugins.scaffold import RUNS, create

_RIGHTS = """
A plugin is code that runs with your rights. SSLX_PLUGINS=a,b loads only these and sslx's own, SSLX_DISABLE_PLUGINS=a,b
loads all but these, and `sslx --no-plugins COMMAND` loads only sslx's own.
"""


@click.group("plugins")
def plugins_command() -> None:
    """List, explain, write and check plugins and their components."""


_kind_option = click.option("--kind", "-k", type=click.Choice(KINDS), metavar="KIND", help=f"Only components of this "
                            f"kind: {', '.join(KINDS)}.")  # fmt: skip


@plugins_command.command("list")
@_kind_option
def list_command(kind: str | None) -> None:
    """List every plugin with its status, and every component by kind."""
    found = registry()
    if kind is None:
        rows = [("PLUGIN", "FROM", "STATUS", "")]
        for plugin in found.plugins:
            facts = "; ".join([plugin.reason or f"{len(plugin.records)} components", *found.conflicts(plugin)])
            rows.append((plugin.name, f"{plugin.distribution} {plugin.version}", plugin.status, facts))
        echo(*columns(rows))
        echo("")
        echo(*prose(_RIGHTS, 0))
        echo("")
    echo(
        *_by_kind(
            (name if len(providers) == 1 else f"{provider.plugin.distribution}/{name}", provider.record)
            for each in ([kind] if kind else KINDS)
            for name, providers in sorted(found.providers(each).items())
            for provider in providers
        )
    )


def _by_kind(records: Iterable[tuple[str, Record]]) -> Iterator[str]:
    """A block of lines for each kind: the names of its components, their summaries, and their papers in brackets."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    for name, record in records:
        paper = f"[{record.paper}]" if record.paper else ""
        blocks.setdefault(record.kind, []).append((name, f"{record.summary} {paper}".strip()))
    for i, (kind, rows) in enumerate(blocks.items()):
        yield from [""] * (i > 0)
        yield kind.upper()
        yield from columns(rows, indent=2)


@plugins_command.command("new")
@click.argument("name")
@click.option("--kind", "-k", required=True, type=click.Choice(list(RUNS)), help="Kind of the component.")
@out_option("folder", type=NEW_FOLDER, default=Path("."), help="Folder in which to write it.  [.]")
def new_command(name: str, kind: str, folder: Path) -> None:
    """Write a package NAME with one working component, tests and CI. Nothing is overwritten."""
    target = create(name, kind, folder)
    echo(f'cd {target} && pip install -e ".[test]" && python -m pytest    # README.md says how to use it')


@plugins_command.command("check")
@click.argument("name")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the component that is "
              "checked, such as one that is required. Repeatable.")  # fmt: skip
def check_command(name: str, settings: Sequence[str]) -> None:
    """Run the checks of `sslx.testing` on NAME: a component, FILE.py:Class, or all of a plugin or distribution."""
    from unittest import SkipTest

    from sslx.core.dotted import nest, parse
    from sslx.core.options import options_of
    from sslx.testing import checks

    catalogue().vouch([name])
    given, failed = nest(dict(map(parse, settings))), 0
    components = {check.component for check in checks(name) if ":" in check.component}
    if given and len(components) != 1:
        raise ConfigError(f"--set: expected the name of one component, {name} stands for {len(components)}")
    if given:
        kind, _, short = min(components).partition(":")
        known = options_of(registry().resolve(kind, name if code.is_reference(name) else short).cls)
        if unknown := min(given.keys() - known.keys(), default=""):
            raise ConfigError(f"--set {unknown}: {short} has no option {unknown!r}{nearest(unknown, known)}")
    for check in checks(name, dict.fromkeys(components, given) if given else {}):
        try:
            if missing := _missing(check):
                raise SkipTest(f"--set {missing}=VALUE is needed" if len(components) == 1 else f"{missing} is required")
            check()
            outcome = "ok"
        except SkipTest as reason:
            outcome = f"does not apply: {reason}"
        except BaseException as error:
            if signals.stops(error):
                raise
            failed += 1
            outcome = f"FAILED: {' '.join(str(error).split()) or type(error).__name__}"
        echo(f"{check.component}  {check.name}  {outcome}")
    if failed:
        raise SslxError(f"{failed} of the checks of {name} failed; tests with parametrize_with_checks show tracebacks")


def _missing(check: Any) -> str:
    """The name of a required option of the component of a check that was not given."""
    from sslx.core.options import options_of

    subject = check.subject
    if ":" not in check.component or check.name == "is_documented" or subject.kind == "command":
        return ""
    required = (name for name, option in options_of(subject.cls).items() if option.default is attrs.NOTHING)
    return next((name for name in required if name not in subject.options), "")


@plugins_command.command("show")
@click.argument("name")
@_kind_option
def show_command(name: str, kind: str | None) -> None:
    """Show the options of NAME with types, defaults and help.

    NAME is a component, FILE.py:Class, or a part of the options of a run: train, views, loader, dataset and others, or
    run for all of them. For the name of a plugin, its components are listed.
    """
    found = registry()
    if code.is_reference(name):
        catalogue().vouch([name])
        _show(found.described(name))
        return
    short = name.rpartition("/")[2].partition(":")[0]
    kinds = [k for k in KINDS if short in found.providers(k) and kind in (None, k)]
    if not kinds and (plugins := [p for p in found.plugins if name in (p.name, p.distribution)]):
        for plugin in plugins:
            origin = f"{plugin.distribution} {plugin.version}"
            echo(f"plugin {plugin.name} of {origin}: {plugin.status} {plugin.reason}")
            echo(*_by_kind((record.name, record) for record in plugin.records))
        return
    if not kinds:
        known = {n for k in KINDS if kind in (None, k) for n in found.providers(k)}
        sections = {} if kind else _sections()
        if name in sections:
            echo(*_explained(sections[name], 0))
            return
        known |= sections.keys()
        raise ConfigError(f"there is no {kind or 'component'} {name!r}{nearest(short, known)}")
    for i, each in enumerate(kinds):
        if i:
            echo("")
        _show(found.find(each, name.partition(":")[0]))


def _sections() -> dict[str, list[tuple[str, ...]]]:
    """The rows of options of each section of a run, such as `train`, of its own options, such as `seed`, and of all."""
    from sslx.core.training.config import RunConfig

    rows = list(option_rows(RunConfig))
    found: dict[str, list[tuple[str, ...]]] = {"run": rows}
    for row in rows:
        found.setdefault(row[0].partition(".")[0], []).append(row)
    return found


def _show(provider: Provider) -> None:
    from sslx.core.training.config import unlayer

    record, plugin = provider.record, provider.plugin
    echo(*filled(f"{record.kind} {record.name}  {record.summary}".rstrip(), "", 2))
    origin = f"{plugin.distribution} {plugin.version}: " if plugin.distribution else ""
    echo(f"  from {origin}{record.target}")
    if record.paper:
        echo(f"  paper {record.paper}")
    cls: Any = registry().resolve(record.kind, provider.reference).cls
    if isinstance(cls, click.Command):
        return
    echo("")
    echo(*prose(cls.__doc__ or ""))
    if cls.defaults:
        evaluators = cls.defaults.get("evaluators", {})
        beside = " (beside those of the dataset)" if record.kind == "method" else ""
        chosen = {"evaluators": ",".join(evaluators) + beside} if evaluators else {}
        echo("", "Recommended settings of a run:")
        for key, value in (unlayer(cls.defaults) | chosen).items():
            echo(*filled(f"{key} = {_text(value)}", "  ", 6))
    if rows := list(option_rows(cls)):
        echo("", "Options:")
        echo(*_explained(rows, 2))


def _explained(rows: Sequence[tuple[str, ...]], indent: int) -> Iterator[str]:
    """Options with their defaults and types, each with its help in the lines below."""
    for name, expected, default, text in rows:
        value = "" if default == "required" or (expected, default) == ("options", "none") else f" = {default}"
        required = ", required" if default == "required" else ""
        yield from filled(f"{name}{value}  ({expected}{required})", " " * indent, indent + 4)
        yield from filled(text, " " * (indent + 4), indent + 4)


def _text(value: Any) -> str:
    """A value as a config has it, without quotation marks."""
    if isinstance(value, tuple | list):
        return str(list(value))
    if isinstance(value, Mapping):
        return ", ".join(value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def option_rows(cls: type, prefix: str = "", preferred: Mapping[str, Any] | None = None) -> Iterator[tuple[str, ...]]:
    """Name, type, default and help of each option. The options of a slot's default component follow the slot."""
    from sslx.core.options import interface_of, options_of

    for name, option in options_of(cls).items():
        default = (preferred or {}).get(name, option.default)
        yield (
            f"{prefix}{name}",
            option.expected,
            "required" if default is attrs.NOTHING else _text(default),
            option.help,
        )
        interface = interface_of(option.type)
        if option.slot is None or interface is None:
            continue
        if not interface.kind:  # a group of options that is always present
            yield from option_rows(interface, f"{prefix}{name}.", option.slot)
        elif isinstance(default, str):
            part = registry().resolve(interface.kind, default).cls
            yield from option_rows(part, f"{prefix}{name}.", option.slot)
