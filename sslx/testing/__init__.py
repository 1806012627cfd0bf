"""The conformance kit: what holds for every component, as one test for each component and check.

    from sslx.testing import parametrize_with_checks

    @parametrize_with_checks("sslx-foo")
    def test_conformance(check):
        check()

`sslx plugins check sslx-foo` runs the same from the shell. The fixtures of `sslx.testing.fixtures` are there once a
`conftest.py` says `pytest_plugins = ["sslx.testing.fixtures"]`. This module is light; the checks import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from sslx.core.errors import ConfigError, PluginError, nearest
from sslx.plugins.registry import Plugin, Provider, registry

if TYPE_CHECKING:
    import pytest

SHAPE = (3, 8, 8)


@attrs.frozen
class Check:
    """One check of one component. Calling it raises whatever is wrong, or `unittest.SkipTest` if it does not apply."""

    component: str  # "prior:foo", or the distribution for what holds of all of it
    name: str  # "gradient_is_that_of_finite_differences"
    function: Callable[[Any], None]
    subject: Any
    expected_failure: str = ""  # the reason, if it is known to fail

    def __call__(self) -> None:
        self.function(self.subject)

    def __str__(self) -> str:
        return f"{self.component}-{self.name}"


def checks(
    name: str,
    options: Mapping[str, Mapping[str, Any]] = {},
    expected_failures: Mapping[str, Mapping[str, str]] = {},
    image_shape: tuple[int, int, int] = SHAPE,
) -> list[Check]:
    """All checks of a distribution, a plugin or a component, in order. Arguments as of `parametrize_with_checks`.

    Raises:
        PluginError: nothing is called so.
        ConfigError: options or expected failures are given for what is not there.
    """
    from sslx.testing import components, packages as distributions

    plugins, providers = _found(name)
    subjects: list[tuple[str, Any, tuple[Callable[[Any], None], ...]]] = []
    for distribution in {plugin.distribution: None for plugin in plugins}:
        mine = [plugin for plugin in plugins if plugin.distribution == distribution]
        subjects.append((distribution, distributions.Distribution(distribution, mine), distributions.CHECKS))
    for provider in providers:
        kind, label = provider.record.kind, f"{provider.record.kind}:{provider.record.name}"
        subject = components.Subject(provider, options.get(label, {}), image_shape)
        subjects.append((label, subject, (*components.CHECKS, *components.checks_of(kind))))
    known: dict[str, set[str]] = {label: {f.__name__ for f in functions} for label, _, functions in subjects}
    for label in [*options, *expected_failures]:
        if label not in known:
            raise ConfigError(f"{name} has no component {label!r}{nearest(label, known)}")
    for label, failures in expected_failures.items():
        for unknown in sorted(failures.keys() - known[label]):
            raise ConfigError(f"{label} has no check {unknown!r}{nearest(unknown, known[label])}")
    return [
        Check(label, function.__name__, function, subject, expected_failures.get(label, {}).get(function.__name__, ""))
        for label, subject, functions in subjects
        for function in functions
    ]


def _found(name: str) -> tuple[list[Plugin], list[Provider]]:
    """The plugins and the components that are meant by the name of a distribution, a plugin or a component."""
    found = registry()
    plugins = [plugin for plugin in found.plugins if name in (plugin.distribution, plugin.name)]
    if plugins:
        return plugins, [Provider(record, plugin) for plugin in plugins for record in plugin.records]
    everything = [Provider(record, plugin) for plugin in found.plugins for record in plugin.records]
    if providers := [p for p in everything if name in (p.record.name, f"{p.record.kind}:{p.record.name}")]:
        return [], providers
    if ".py" in name:
        raise PluginError(f"{name}: only what is installed can be checked; `sslx plugins new` makes a package for it")
    known = {p.distribution for p in found.plugins} | {p.record.name for p in everything}
    raise PluginError(f"there is no plugin or component {name!r}{nearest(name, known)}; is it installed?")


def parametrize_with_checks(
    name: str,
    *,
    options: Mapping[str, Mapping[str, Any]] = {},
    expected_failures: Mapping[str, Mapping[str, str]] = {},
    image_shape: tuple[int, int, int] = SHAPE,
) -> pytest.MarkDecorator:
    """A test for each component and check of an installed distribution; the test calls its argument, `check`.

    Args:
        name: the distribution; or one plugin, or one component of it.
        options: of a component by `"kind:name"`, such as `{"method:foo": {"encoder": {"hidden": [16]}}}`: those that
            are required, or that make it small.
        expected_failures: by component and check the reason why it fails, such as
            `{"method:foo": {"overfits_one_batch": "its target moves"}}`. One that passes after all is a failure.
        image_shape: (C, H, W) of the images that networks are tried with.
    """
    import pytest

    def parameter(check: Check) -> Any:
        known = pytest.mark.xfail(reason=check.expected_failure, strict=True) if check.expected_failure else ()
        return pytest.param(check, id=str(check), marks=known)

    found = checks(name, options, expected_failures, image_shape)
    return pytest.mark.parametrize("check", [parameter(check) for check in found])
