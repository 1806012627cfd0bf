"""Discovery: which plugins are installed, what each provides, and what is wrong with the others.

pluggy registers plugins and calls hooks. It does not isolate them, report collisions or load lazily: that is here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.abc import MetaPathFinder
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

import attrs
import pluggy

from sslx.core.catalogue import Resolved
from sslx.core.errors import PluginError, nearest
from sslx.plugins import hookspecs
from sslx.plugins.record import KINDS, Record

#: Whether code is trusted that the files of a run name; None while the user has the word.
_TRUST: ContextVar[bool | None] = ContextVar("trust", default=None)
_FILE = "sslx_file_"  # how the modules of single files are called


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
    """A component and the plugin that it comes from."""

    record: Record
    plugin: Plugin


class Registry:
    """The plugins of this environment, in order of their names; discovery happens on construction."""

    def __init__(self, entry_points: list[tuple[EntryPoint, Distribution]]) -> None:
        self.vouched: set[str] = set()  # references to code that the user named
        self.hooks = pluggy.PluginManager("sslx")
        self.hooks.add_hookspecs(hookspecs)
        self.plugins = [self._load(point, dist) for point, dist in entry_points]

    def _load(self, point: EntryPoint, dist: Distribution) -> Plugin:
        plugin = Plugin(point.name, point.value, dist.metadata["Name"], dist.version)
        if point.group != hookspecs.GROUP:
            plugin.status = "incompatible"
            plugin.reason = f"built for plugin API {point.group.removeprefix('sslx.v')}, this is API {hookspecs.API}"
        elif reason := _disabled(plugin):
            plugin.status, plugin.reason = "disabled", reason
        else:
            self._register(plugin, point.load)
        return plugin

    def _register(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        """Take what `load` returns for the plugin, or note what is wrong with it."""
        identity = f"{plugin.distribution}/{plugin.name}"  # two plugins may use one entry-point name
        try:
            with _without_torch():
                module = load()
                self.hooks.register(module, identity)
                self.hooks.check_pending()
                mine = [i for i in self.hooks.hook.sslx_components.get_hookimpls() if i.plugin is module]
                plugin.records = tuple(_checked(record for i in mine for record in _yielded(i)))
        except (Exception, SystemExit) as error:
            plugin.status, plugin.reason = "broken", _reason(error)
            if self.hooks.has_plugin(identity):  # pluggy keeps what failed half-way
                self.hooks.unregister(name=identity)

    def add(self, distribution: str, module: Any, version: str = "0") -> Plugin:
        """Take a module, or an object with hooks, for the plugin of a distribution that is not installed."""
        plugin = Plugin(distribution, getattr(module, "__name__", type(module).__name__), distribution, version)
        self._register(plugin, lambda: module)
        self.plugins.append(plugin)
        return plugin

    def conflicts(self, plugin: Plugin) -> list[str]:
        """What this plugin provides under a name that others provide too, and how to say which is meant."""
        found = []
        for record in plugin.records:
            others = [p.plugin for p in self.providers(record.kind)[record.name] if p.plugin is not plugin]
            if others:
                names = " and ".join(f"{other.distribution} {other.version}" for other in others)
                label = f"{plugin.distribution}/{record.name}"
                found.append(f"{record.kind} {record.name!r} is also provided by {names}: write {label} for this one")
        return found

    def providers(self, kind: str) -> dict[str, list[Provider]]:
        """All components of a kind by name; a name with several providers is ambiguous."""
        found: dict[str, list[Provider]] = {}
        for plugin in self.plugins:
            for record in plugin.records:
                if record.kind == kind:
                    found.setdefault(record.name, []).append(Provider(record, plugin))
        return found

    def find(self, kind: str, name: str, owner: str = "") -> Provider:
        """The one component called `name`, or `distribution/name` where several are. Raises PluginError.

        Args:
            owner: a package whose own component is meant, if several are called `name`.
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
        raise PluginError(f"there is no {kind} {name!r}{nearest(short, providers)}{hint}")

    def resolve(self, kind: str, reference: str, owner: str = "") -> Resolved:
        """The class for `name`, `name:argument`, `./argument.ending`, `distribution/name`, `./file.py:Class` or
        `package.module:Class`. Raises PluginError.
        """
        try:
            return self._resolve(kind, reference, owner)
        except RecursionError as error:
            raise PluginError(f"{reference}: endless recursion while it was imported") from error

    def _resolve(self, kind: str, reference: str, owner: str) -> Resolved:
        name, _, argument = reference.partition(":")
        if name.endswith(".py") and argument:
            path = Path(name).expanduser().resolve()  # absolute, so that the run's config works from anywhere
            self._admit(f"{path}:{argument}", path)
            return Resolved(_attribute(_load_file(path), argument, reference), f"{path}:{argument}")
        if name == "__main__" or "<locals>" in argument:
            cls = argument.rpartition(".")[2]
            advice = f"give it as an object, such as sslx.resume(RUN, objects=[{cls}])"
            raise PluginError(f"{reference} was defined in a script, a notebook or a function: {advice}")
        if argument and "/" not in name and ("." in name or name in sys.modules.keys() - self.providers(kind).keys()):
            self._admit(reference)
            return Resolved(_attribute(_import(name, reference), argument, reference), reference)
        if name.endswith(".py"):
            raise PluginError(f"{reference}: say which class, as {reference}:MyMethod")
        for reader, (first, *_) in self.providers(kind).items():
            if not argument and first.record.reads and name.endswith(first.record.reads):
                name, argument = reader, reference
                break
        provider = self.find(kind, name, owner)
        module, _, attribute = provider.record.target.partition(":")
        owner = f"{provider.plugin.distribution} {provider.plugin.version}: {kind} {name!r}"
        return Resolved(_attribute(_import(module, owner), attribute, owner), name, argument or None)

    def reference(self, cls: type) -> str:
        """The reference that leads to a class: its registered name, `FILE.py:Class` or `module:Class`."""
        target = f"{cls.__module__}:{cls.__qualname__}"
        for plugin in self.plugins:
            for record in plugin.records:
                if record.target == target:
                    alone = len(self.providers(record.kind)[record.name]) == 1
                    return record.name if alone else f"{plugin.distribution}/{record.name}"
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return f"{file}:{cls.__qualname__}" if cls.__module__.startswith(_FILE) else target

    def vouch(self, texts: Iterable[Any]) -> None:
        """Take these as words of the user: code that they name may be executed, wherever else it is named."""
        self.vouched |= {_whole(text) for text in texts if isinstance(text, str)}

    @contextmanager
    def on_record(self, trust: bool) -> Iterator[None]:
        """References inside come from the files of a run: only what is installed or vouched for is executed."""
        token = _TRUST.set(trust)
        try:
            yield
        finally:
            _TRUST.reset(token)

    def _admit(self, reference: str, file: Path | None = None) -> None:
        """The one gate of code that is not a record of a plugin. Raises PluginError if nobody vouches for it."""
        trust = _TRUST.get()
        ours = {plugin.module.split(".")[0] for plugin in self.plugins if plugin.status == "ok"}
        if trust is None:
            self.vouched.add(reference)
        if reference in self.vouched or (file is None and reference.split(".")[0] in ours):
            return
        if not trust:
            raise PluginError(
                f"{reference} is code that the files of a run name, which is not executed; if you trust it, say so "
                "with --trust-code (from Python trust_code=True)"
            )
        if file is not None and file.is_file():
            print(f"trusted: {file}, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}", file=sys.stderr)
        self.vouched.add(reference)

    def call(self, hook: str, **arguments: Any) -> None:
        """Call a lifecycle hook on every plugin. One that fails is named once and muted for the rest of the process."""
        for implementation in reversed(getattr(self.hooks.hook, hook).get_hookimpls()):
            try:
                implementation.function(*(arguments[name] for name in implementation.argnames))
            except (Exception, SystemExit) as error:
                name, reason = implementation.plugin_name, str(error) or type(error).__name__
                print(f"plugin {name} failed in {hook} and is muted: {reason}", file=sys.stderr)
                self.hooks.unregister(name=name)

    @contextmanager
    def following(self, trackers: Mapping[str, object]) -> Iterator[None]:
        """Call the hooks of these objects, too, for a while. Raises PluginError for one whose hooks are wrong."""
        try:
            for name, tracker in trackers.items():
                try:
                    self.hooks.register(tracker, name)
                    self.hooks.check_pending()
                except Exception as error:  # pluggy's, with its own words on what is wrong
                    raise PluginError(f"tracker {name}: {_reason(error)}") from error
            yield
        finally:
            for name in trackers:
                if self.hooks.has_plugin(name):  # not muted
                    self.hooks.unregister(name=name)


def _disabled(plugin: Plugin) -> str:
    """Why a plugin is switched off by the environment. sslx's own are always on."""
    if plugin.distribution == "sslx":
        return ""
    names = {plugin.name, plugin.distribution}
    allowed = os.environ.get("SSLX_PLUGINS")
    if allowed is not None and not names & set(allowed.replace(" ", "").split(",")):
        return "not listed in SSLX_PLUGINS"
    if names & set(os.environ.get("SSLX_DISABLE_PLUGINS", "").replace(" ", "").split(",")):
        return "listed in SSLX_DISABLE_PLUGINS"
    return ""


class _NoTorch(MetaPathFinder):
    """Refuses torch, with whatever is of its size on top of it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torch":
            raise PluginError(
                "imports torch when it is found, which would slow every command down: "
                "yield records in a module that imports none, and keep components in others"
            )


@contextmanager
def _without_torch() -> Iterator[None]:
    """While plugins are found torch cannot be imported, unless it is there already."""
    guard = _NoTorch()
    sys.meta_path.insert(0, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def _yielded(implementation: Any) -> list[Any]:
    return list(implementation.function())


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


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"calls sys.exit({'' if error.code is None else error.code}) when imported"
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".rstrip(": ")


def _import(module: str, owner: str) -> types.ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{owner}: module {module} cannot be imported: {_reason(error)}") from error


def _whole(reference: str) -> str:
    """`./file.py:Class` with its whole path; other references as they are."""
    name, _, argument = reference.partition(":")
    return f"{Path(name).expanduser().resolve()}:{argument}" if name.endswith(".py") else reference


def _attribute(module: types.ModuleType, name: str, owner: str) -> type:
    try:
        value: type = getattr(module, name)
        return value
    except AttributeError:
        classes = [k for k, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise PluginError(f"{owner}: there is no {name!r} in it{nearest(name, classes)}") from None


def _load_file(path: Path) -> types.ModuleType:
    """Import a single file, under a name of its own so that classes in it can be pickled and found again."""
    if not path.is_file():
        raise PluginError(f"{path}: no such file")
    name = f"{_FILE}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else path
        raise PluginError(f"{where}: cannot be imported: {_reason(error)}") from error
    return module


def installed() -> list[tuple[EntryPoint, Distribution]]:
    """Entry points of every version of the plugin API. A distribution seen twice on the path counts once."""
    found: dict[tuple[str, str, str], tuple[EntryPoint, Distribution]] = {}
    for dist in distributions():
        for point in dist.entry_points:
            if point.group.startswith("sslx.v") and point.group.removeprefix("sslx.v").isdigit():
                found.setdefault((dist.metadata["Name"], point.group, point.name), (point, dist))
    return [found[key] for key in sorted(found)]


@functools.cache
def registry() -> Registry:
    """The registry of this environment."""
    return Registry(installed())
