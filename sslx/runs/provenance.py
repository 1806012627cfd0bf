"""What a run was made with, and what has changed since."""

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from sslx.core.console import say
from sslx.core.errors import PluginError
from sslx.core.files import digest
from sslx.core.options import Component, options_of, reference
from sslx.core.training.config import RunConfig
from sslx.core.training.run import Run
from sslx.core.training.run_folder import RunFolder, versions
from sslx.plugins.hookspecs import API
from sslx.plugins.registry import registry


def components(config: RunConfig) -> list[dict[str, Any]]:
    """Where each component of a config comes from: distribution, version and commit, and a hash of its file."""
    used = {(part.kind, reference(part)): type(part) for part in _parts(config) if part.kind}
    return [_origin(kind, name, cls) for (kind, name), cls in used.items()]


def objects(config: RunConfig) -> list[Component]:
    """The components whose class no reference leads to, such as those of a notebook: another process needs them."""
    return [part for part in _parts(config) if part.kind and not _named(part.kind, reference(part), type(part))]


def differences(facts: Mapping[str, Any]) -> list[str]:
    """One line for each version or component that has changed since run.json was written. Nothing is executed.

    Args:
        facts: the content of run.json.
    """
    now: dict[str, Any] = versions()
    lines = [
        f"{name} was {before}, and is {now.get(name, 'not installed')}"
        for name, before in facts.get("versions", {}).items()
        if now.get(name) != before
    ]
    return list(dict.fromkeys([*lines, *filter(None, map(_difference, facts.get("components", [])))]))


def _difference(old: Mapping[str, Any]) -> str:
    """How a recorded component has changed; empty if it has not, or if only running its code would show it."""
    kind, name = old["kind"], old["name"]
    if "file" in old:
        file = Path(str(old["file"]))
        if not file.is_file():
            return f"{kind} {name}: {file} is gone"
        new: dict[str, Any] = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    elif "distribution" in old:
        try:
            with registry().on_record(False):
                new = _origin(kind, name, registry().resolve(kind, name, "sslx").cls)
        except PluginError as error:
            return str(error)
    else:
        return ""
    if old.get("version") != new.get("version"):
        return f"{old.get('distribution')} was {old.get('version')}, and is {new.get('version')}"
    if old.get("sha256", new["sha256"]) != new["sha256"]:
        origin = f" of {old['distribution']} {old.get('version')}" if "distribution" in old else ""
        return f"the code of {kind} {name}{origin} is not what it was"
    return ""


def foreign(manifest: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Why a checkpoint is not one of the run that run.json describes, as far as both say it; empty if it is."""
    changes = facts.get("changes", [])
    known = {digest(facts.get("config")), *(change["before"] for change in changes)}
    if "config" in facts and "config" in manifest and manifest["config"] not in known:
        return "belongs to a run with another config"
    same = "data" not in manifest or manifest["data"] == digest(facts.get("fingerprint"))
    if "fingerprint" in facts and not same and not any("data" in change["options"] for change in changes):
        return "belongs to a run on other images"
    return ""


def say_differences(run: Run) -> None:
    """Say what has changed since the run was made."""
    for line in differences(run.folder.facts()):
        say(f"{run.path}: {line}")


def say_changes(folder: RunFolder) -> None:
    """Say which options of a run have been changed while it was under way."""
    for change in folder.facts().get("changes", []):
        say(f"{folder.path}: was changed at step {change['step']}: {', '.join(change['options'])}")


def _parts(component: Component) -> Iterator[Component]:
    """All components in it, at any depth."""
    for name in options_of(type(component)):
        value = getattr(component, name)
        for part in value.values() if isinstance(value, dict) else [value]:
            if isinstance(part, Component):
                yield part
                yield from _parts(part)


def _origin(kind: str, name: str, cls: type) -> dict[str, Any]:
    path, _, attribute = name.partition(":")
    facts: dict[str, Any] = {"kind": kind, "name": name}
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if not _named(kind, name, cls):
        facts["source"] = _source(cls)  # kept for a reader
    elif path.endswith(".py"):
        facts["file"] = path
    elif attribute:
        facts["target"] = name
    else:
        provider = registry().find(kind, name, "sslx")
        plugin = provider.plugin
        facts |= {"distribution": plugin.distribution, "version": plugin.version}
        facts |= {**_commit(plugin.distribution), "target": provider.record.target}
    code = facts["source"].encode() if "source" in facts else Path(file).read_bytes() if file else b""
    return {**facts, "sha256": hashlib.sha256(code).hexdigest(), "api": API}


def _named(kind: str, name: str, cls: type) -> bool:
    """Whether the name alone leads to the class."""
    try:
        return registry().resolve(kind, name, "sslx").cls is cls
    except PluginError:
        return False


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed into an interpreter that keeps none
        return ""


def _commit(name: str) -> dict[str, Any]:
    """The commit that a distribution was installed from, and whether it is editable, as far as the installer knows."""
    try:
        facts = json.loads(distribution(name).read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # of a plugin that was added by hand
        return {}
    commit, editable = facts.get("vcs_info", {}).get("commit_id"), facts.get("dir_info", {}).get("editable")
    return {**({"commit": commit} if commit else {}), **({"editable": True} if editable else {})}
