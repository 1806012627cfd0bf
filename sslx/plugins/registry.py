"""Discovery of the installed plugins: what each provides, and why others cannot be used.

pluggy registers plugins and calls hooks. This module adds what pluggy lacks: it isolates failures, reports collisions
and imports components when they are used.
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import Any

import attrs
import pluggy

from sslx.core import signals
from sslx.core.catalogue import Resolved
from sslx.core.console import say
from sslx.core.errors import PluginError, nearest
from sslx.plugins import code, hookspecs
from sslx.plugins.record import KINDS, Record

#: What is wrong with a distribution that no package can be imported beside that looks for entry points itself.
UNREADABLE = "entry_points.txt cannot be read"


@attrs.define
class Plugin:
    """One entry point. `status` is ok, disabled, broken or incompatible; `reason` says why it is not ok."""

    name: str
    module: str
    distribution: str
    version: str
    status: str = "ok"
    reason: str = ""
    records: tuple[Record, ...] = ()


@attrs.frozen
class Provider:
    """A component and the plugin that provides it."""

    record: Record
    plugin: Plugin

    @property
    def reference(self) -> str:
        """What `resolve` takes for this component."""
        return f"{self.plugin.distribution}/{self.record.name}" if self.plugin.distribution else self.record.target


class Registry(code.Gate):
    """The plugins of this environment, in order of their names. The constructor finds them."""

    def __init__(self, entry_points: Iterable[tuple[EntryPoint, Plugin]]) -> None:
        super().__init__()
        self.hooks = pluggy.PluginManager("sslx")
        self.hooks.add_hookspecs(hookspecs)
        self.plugins = [self._load(point, attrs.evolve(plugin)) for point, plugin in entry_points]

    def _load(self, point: EntryPoint, plugin: Plugin) -> Plugin:
        if plugin.status != "ok":
            return plugin
        if point.group != hookspecs.GROUP:
            plugin.status = "incompatible"
            plugin.reason = f"built for plugin API {point.group.removeprefix('sslx.v')}, this is API {hookspecs.API}"
        elif reason := _disabled(plugin):
            plugin.status, plugin.reason = "disabled", reason
        else:
            self._register(plugin, point.load)
        return plugin

    def _register(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        """Register what `load` returns as the plugin, or record what is wrong with it."""
        identity = f"{plugin.distribution}/{plugin.name}"  # two plugins may use one entry-point name
        try:
            with _WithoutTorch():
                module = load()
                self._adopt(module, identity)
                mine = [i for i in self.hooks.hook.sslx_components.get_hookimpls() if i.plugin is module]
                plugin.records = tuple(_checked(record for i in mine for record in _yielded(i)))
        except BaseException as error:
            if signals.stops(error):
                raise
            plugin.status, plugin.reason = "broken", code.reason(error)
            if self.hooks.has_plugin(identity):  # pluggy keeps plugins that failed half-way
                self.hooks.unregister(name=identity)

    def _adopt(self, plugin: Any, name: str) -> None:
        """Let pluggy call the hooks of an object. Raises an exception that says what is wrong with them."""
        self.hooks.register(plugin, name)
        self.hooks.check_pending()
        for hook in vars(hookspecs):
            function = getattr(plugin, hook, None) if hook.startswith("sslx_") else None
            if callable(function) and not hasattr(function, "sslx_impl"):
                raise PluginError(f"{hook} has the name of a hook, but is not marked with @hookimpl")

    def add(self, distribution: str, module: Any, version: str = "0") -> Plugin:
        """Register a module, or an object with hooks, as the plugin of a distribution that is not installed."""
        plugin = Plugin(distribution, getattr(module, "__name__", type(module).__name__), distribution, version)
        self._register(plugin, lambda: module)
        self.plugins.append(plugin)
        return plugin

    def conflicts(self, plugin: Plugin) -> list[str]:
        """Names that other plugins provide as well, and how to refer to the component of this plugin."""
        found = []
        for record in plugin.records:
            others = [p.plugin for p in self.providers(record.kind)[record.name] if p.plugin is not plugin]
            if others:
                names = " and ".join(f"{other.distribution} {other.version}" for other in others)
                label = f"{plugin.distribution}/{record.name}"
                found.append(f"{record.kind} {record.name!r} is also provided by {names}: write {label} for this one")
        return found

    def providers(self, kind: str) -> dict[str, list[Provider]]:
        """All components of a kind by name. A name with several providers is ambiguous."""
        found: dict[str, list[Provider]] = {}
        for plugin in self.plugins:
            for record in plugin.records:
                if record.kind == kind:
                    found.setdefault(record.name, []).append(Provider(record, plugin))
        return found

    def find(self, kind: str, name: str, owner: str = "") -> Provider:
        """The component `name`, or `distribution/name` if several plugins provide the name. Raises PluginError.

        Args:
            owner: the package whose own component is used if several plugins provide the name.
        """
        distribution, _, short = name.rpartition("/")
        providers = self.providers(kind)
        matching = [p for p in providers.get(short, []) if distribution in ("", p.plugin.distribution)]
        if len(matching) > 1 and owner:
            matching = [p for p in matching if p.record.target.startswith(f"{owner}.")] or matching
        if len(matching) == 1:
            return matching[0]
        if matching:
            owners = [f"{p.plugin.distribution} {p.plugin.version}" for p in matching]
            choices = [f"{p.plugin.distribution}/{short}" for p in matching]
            raise PluginError(f"{kind} {short!r} is provided by {' and '.join(owners)}; write {' or '.join(choices)}")
        broken = [f"{p.distribution} ({p.status})" for p in self.plugins if p.status in ("broken", "incompatible")]
        hint = f"; plugins that could not be loaded: {', '.join(broken)}" if broken else ""
        if not self.plugins:
            hint = "; no plugin is installed, not even sslx's own: run `pip install .`"
        noun, near = "view policy" if kind == "views" else kind, nearest(short, providers)
        if kind == "dataset" and os.path.exists(name):
            folder = name if os.path.isdir(name) else os.path.dirname(name) or "."
            near = f" (did you mean 'folder:{folder}'?)"
        raise PluginError(f"there is no {noun} {name!r}{near}{hint}")

    def resolve(self, kind: str, reference: str, owner: str = "") -> Resolved:
        """The class of a reference. Raises PluginError.

        References are `name`, `name:argument`, `./argument.ending`, `distribution/name`, `./file.py:Class` and
        `package.module:Class`.
        """
        try:
            return self._resolve(kind, reference, owner)
        except RecursionError as error:
            raise PluginError(f"{reference}: endless recursion; is a component part of itself?") from error

    def _resolve(self, kind: str, reference: str, owner: str) -> Resolved:
        name, _, argument = reference.partition(":")
        if name.endswith(".py") and argument:
            path = code.whole(name)
            self.admit(f"{path}:{argument}", path)
            return Resolved(code.file_class(path, argument, reference), f"{path}:{argument}")
        if name == "__main__" or "<locals>" in argument:
            cls = argument.rpartition(".")[2]
            advice = f"give it as an object, such as sslx.resume(RUN, objects=[{cls}])"
            raise PluginError(f"{reference} was defined in a script, a notebook or a function: {advice}")
        if argument and "/" not in name and ("." in name or name in sys.modules.keys() - self.providers(kind).keys()):
            if name.split(".")[0] not in {p.module.split(".")[0] for p in self.plugins if p.status == "ok"}:
                self.admit(reference)
            return Resolved(code.module_class(name, argument, reference), reference)
        if name.endswith(".py"):
            raise PluginError(f"{reference}: name the class as well, such as {reference}:MyClass")
        for reader, (first, *_) in self.providers(kind).items():
            if not argument and first.record.reads and name.endswith(first.record.reads):
                name, argument = reader, reference
                break
        provider = self.find(kind, name, owner)
        module, _, attribute = provider.record.target.partition(":")
        origin = f"{provider.plugin.distribution} {provider.plugin.version}: {kind} {name!r}"
        return Resolved(code.module_class(module, attribute, origin), name, argument or None)

    def described(self, reference: str) -> Provider:
        """The component of a reference to code, `./file.py:Class`, as if a plugin provided it. Raises PluginError."""
        found = self.resolve("component", reference)
        if (kind := getattr(found.cls, "kind", "")) not in KINDS:
            raise PluginError(f"{reference} is not a component, such as a subclass of sslx.api.Method")
        with attrs.validators.disabled():  # the target is a file
            summary = (found.cls.__doc__ or found.cls.__name__).strip().splitlines()[0]
            record = Record(kind, found.cls.__name__, found.use, summary)
        return Provider(record, Plugin("", "", "", ""))

    def reference(self, cls: type) -> str:
        """The reference of a class: its registered name, `FILE.py:Class` or `module:Class`."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        for plugin in self.plugins:
            for record in plugin.records:
                if record.target == target:
                    alone = len(self.providers(record.kind)[record.name]) == 1
                    return record.name if alone else f"{plugin.distribution}/{record.name}"
        return code.reference(cls)

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a lifecycle hook of every plugin. One that fails is reported and muted for the rest of the process."""
        for implementation in reversed(getattr(self.hooks.hook, hook).get_hookimpls()):
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except BaseException as error:
                if signals.stops(error):
                    raise
                name, reason = implementation.plugin_name, str(error) or type(error).__name__
                say(f"plugin {name} failed in {hook} and is muted: {' '.join(reason.split())}")
                self.hooks.unregister(name=name)

    @contextmanager
    def following(self, trackers: Mapping[str, object]) -> Iterator[None]:
        """Call the hooks of these objects as well, inside the context. Raises PluginError if a hook is wrong."""
        try:
            for name, tracker in trackers.items():
                try:
                    self._adopt(tracker, name)
                except Exception as error:  # pluggy's own, whose message says what is wrong
                    raise PluginError(f"tracker {name}: {code.reason(error)}") from error
            yield
        finally:
            for name in trackers:
                if self.hooks.has_plugin(name):  # it was not muted
                    self.hooks.unregister(name=name)


def _disabled(plugin: Plugin) -> str:
    """Why the environment switches a plugin off, or an empty string. sslx's own are always on."""
    if plugin.distribution == "sslx":
        return ""
    names = {plugin.name, plugin.distribution}
    allowed = os.environ.get("SSLX_PLUGINS")
    if allowed is not None and not names & set(allowed.replace(" ", "").split(",")):
        return "not listed in SSLX_PLUGINS"
    if names & set(os.environ.get("SSLX_DISABLE_PLUGINS", "").replace(" ", "").split(",")):
        return "listed in SSLX_DISABLE_PLUGINS"
    return ""


class _WithoutTorch:
    """A context in which torch, and packages on top of it, cannot be imported unless torch was imported before."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torch":
            raise PluginError(
                "imports torch during discovery, which would slow down every command: "
                "yield records in a module that does not import torch, and keep components in other modules"
            )

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *error: object) -> None:
        sys.meta_path.remove(self)


def _yielded(implementation: Any) -> Iterable[Any]:
    return implementation.function()


def _checked(records: Iterable[Any]) -> list[Record]:
    records, seen = list(records), set()
    for record in records:
        if not isinstance(record, Record):
            raise PluginError(f"sslx_components must yield records such as method(...), got {record!r}")
        if record.kind not in KINDS:
            raise PluginError(f"record {record.name!r}: unknown kind {record.kind!r}{nearest(record.kind, KINDS)}")
        if (record.kind, record.name) in seen:
            raise PluginError(f"{record.kind} {record.name!r} is recorded twice")
        seen.add((record.kind, record.name))
    return records


def installed() -> list[tuple[EntryPoint, Plugin]]:
    """Entry points of every version of the plugin API. A distribution that is on the path twice counts once.

    A distribution whose files are damaged is a plugin with the status broken.
    """
    found: dict[tuple[str, str, str], tuple[EntryPoint, Plugin]] = {}
    for dist in distributions():
        where = str(getattr(dist, "_path", dist))
        points, name, version, reason = list[EntryPoint](), "", "", ""
        try:
            points = [point for point in dist.entry_points if re.fullmatch(r"sslx\.v\d+", point.group)]
        except Exception as error:
            points, reason = [EntryPoint("", "", "")], f"{where}: {UNREADABLE}: {code.reason(error)}"
        if not points:
            continue
        with suppress(Exception):
            name, version = dist.metadata["Name"] or "", dist.version or ""
        if not (name and version):
            reason = reason or f"{where}: no name or version in METADATA, as after a broken uninstall"
            name, version = name or re.split(r"-\d", Path(where).name)[0], version or "?"
        for point in points:
            plugin = Plugin(point.name or name, point.value, name, version, "broken" if reason else "ok", reason)
            found.setdefault((name, point.group, point.name), (point, plugin))
    return [found[key] for key in sorted(found)]


@functools.cache
def registry() -> Registry:
    """The registry of this environment."""
    return Registry(installed())
