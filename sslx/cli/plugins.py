"""`sslx plugins`: lists, explains, writes and checks plugins. Imports torch only to show or check components."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from sslx.core import signals
from sslx.core.catalogue import catalogue
from sslx.core.errors import ConfigError, SslxError, nearest
from sslx.plugins import code
from sslx.plugins.record import KINDS
from sslx.plugins.registry import Provider, registry
from sslx.plugins.scaffold import RUNS, create


@click.group("plugins")
def plugins_command() -> None:
    """List, explain, write and check plugins and their components."""


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


@plugins_command.command("list")
def list_command() -> None:
    """List every plugin with its status, and every component by kind."""
    found = registry()
    rows = [("PLUGIN", "FROM", "STATUS", "")]
    for plugin in found.plugins:
        facts = "; ".join([plugin.reason or f"{len(plugin.records)} components", *found.conflicts(plugin)])
        rows.append((plugin.name, f"{plugin.distribution} {plugin.version}", plugin.status, facts))
    for line in _columns(rows):
        click.echo(line)
    click.echo("\nA plugin is code that runs with your rights. SSLX_PLUGINS=a,b loads only these and sslx's own,")
    click.echo("SSLX_DISABLE_PLUGINS=a,b loads all but these, and `sslx --no-plugins COMMAND` loads only sslx's own.")
    rows = []
    for kind in KINDS:
        for name, providers in sorted(found.providers(kind).items()):
            for provider in providers:
                label = name if len(providers) == 1 else f"{provider.plugin.distribution}/{name}"
                rows.append((kind, label, provider.record.summary, provider.record.paper))
    click.echo()
    for line in _columns([("KIND", "NAME", "SUMMARY", "PAPER"), *rows]):
        click.echo(line)


@plugins_command.command("new")
@click.argument("name")
@click.option("--kind", "-k", required=True, type=click.Choice(list(RUNS)), help="Kind of the component.")
@click.option("--to", type=click.Path(path_type=Path), default=Path("."), help="Folder in which to write it.  [.]")
def new_command(name: str, kind: str, to: Path) -> None:
    """Write a package NAME with one working component, tests and CI. Nothing is overwritten."""
    target = create(name, kind, to)
    click.echo(f"cd {target} && pip install . && pytest    # README.md says how to use it")


@plugins_command.command("check")
@click.argument("name")
@click.option("--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the component that is "
              "checked, such as one that is required. Repeatable.")  # fmt: skip
def check_command(name: str, settings: Sequence[str]) -> None:
    """Run the checks of `sslx.testing` on NAME: a component, FILE.py:Class, or all of a plugin or distribution."""
    from unittest import SkipTest

    from sslx.core.dotted import nest, parse
    from sslx.testing import checks

    catalogue().vouch([name])
    given, failed = nest(dict(map(parse, settings))), 0
    components = {check.component for check in checks(name) if ":" in check.component}
    if given and len(components) != 1:
        raise ConfigError(f"--set: expected the name of one component, {name} stands for {len(components)}")
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
        click.echo(f"{check.component}  {check.name}  {outcome}")
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
@click.option("--kind", type=click.Choice(KINDS), help="Kind of the component, if several have this name.")
def show_command(name: str, kind: str | None) -> None:
    """Show the options of NAME with types, defaults and help: a component, FILE.py:Class or a section such as train.

    For the name of a plugin it lists the plugin's components.
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
            click.echo(f"plugin {plugin.name} of {origin}: {plugin.status} {plugin.reason}")
            for line in _columns([(f"  {record.kind}", record.name, record.summary) for record in plugin.records]):
                click.echo(line)
        return
    if not kinds:
        known = {n for k in KINDS if kind in (None, k) for n in found.providers(k)}
        sections = {} if kind else _sections()
        for line in _columns(sections.get(name, [])):
            click.echo(line)
        if name in sections:
            return
        known |= sections.keys()
        raise ConfigError(f"there is no {kind or 'component'} {name!r}{nearest(short, known)}")
    for i, each in enumerate(kinds):
        if i:
            click.echo()
        _show(found.find(each, name.partition(":")[0]))


def _sections() -> dict[str, list[tuple[str, ...]]]:
    """The rows of options of each section of a run, such as `train`, and of each of its own options, such as `seed`."""
    from sslx.core.training.config import RunConfig

    found: dict[str, list[tuple[str, ...]]] = {}
    for row in option_rows(RunConfig):
        found.setdefault(row[0].partition(".")[0], []).append(row)
    return found


def _show(provider: Provider) -> None:
    record, plugin = provider.record, provider.plugin
    click.echo(f"{record.kind} {record.name}  {record.summary}".rstrip())
    origin = f"{plugin.distribution} {plugin.version}: " if plugin.distribution else ""
    click.echo(f"  from {origin}{record.target}")
    if record.paper:
        click.echo(f"  paper {record.paper}")
    cls: Any = registry().resolve(record.kind, provider.reference).cls
    if isinstance(cls, click.Command):
        return
    for line in (cls.__doc__ or "").strip().splitlines():
        click.echo(f"  {line.strip()}".rstrip())
    if cls.defaults:
        click.echo(f"\n  recommends {json.dumps(cls.defaults)}")
    if rows := list(option_rows(cls)):
        click.echo()
    for line in _columns(rows):
        click.echo(f"  {line}")


def option_rows(cls: type, prefix: str = "", preferred: Mapping[str, Any] | None = None) -> Iterator[tuple[str, ...]]:
    """Name, type, default and help of each option. The options of a slot's default component follow the slot."""
    from sslx.core.options import interface_of, options_of

    for name, option in options_of(cls).items():
        default = (preferred or {}).get(name, option.default)
        text = "required" if default is attrs.NOTHING else str(default).lower() if default is None else str(default)
        yield f"{prefix}{name}", option.expected, text, option.help
        interface = interface_of(option.type)
        if option.slot is None or interface is None:
            continue
        if not interface.kind:  # a group of options that is always present
            yield from option_rows(interface, f"{prefix}{name}.", option.slot)
        elif isinstance(default, str):
            part = registry().resolve(interface.kind, default).cls
            yield from option_rows(part, f"{prefix}{name}.", option.slot)
