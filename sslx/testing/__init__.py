"""The conformance kit, which tests plugins: one test for each component and check.

    from sslx.testing import parametrize_with_checks

    @parametrize_with_checks("sslx-foo")
    def test_conformance(check):
        check()

`sslx plugins check sslx-foo` runs the same checks from the shell. A line `pytest_plugins = ["sslx.testing.fixtures"]`
in a `conftest.py` makes the fixtures available. This module is light; the checks import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from sslx.core.errors import ConfigError, PluginError, nearest
from sslx.plugins.code import is_reference
from sslx.plugins.registry import Plugin, Provider, registry

if TYPE_CHECKING:
    import pytest

SHAPE = (3, 8, 8)


@attrs.frozen
class Check:
    """One check of one component. Calling it raises an error, or `unittest.SkipTest` if it does not apply."""

    component: str  # "prior:foo", or the name of the distribution
    name: str  # "gradient_is_that_of_finite_differences"
    function: Callable[[Any], None]
    subject: Any
    expected_failure: str = ""  # the reason why it is known to fail, or an empty string

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
    """All checks of a distribution, a plugin or a component. The arguments are those of `parametrize_with_checks`.

    Raises:
        PluginError: nothing has this name.
        ConfigError: options or expected failures are given for an unknown component or check.
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
    """The plugins and components that the name of a distribution, a plugin or a component stands for."""
    found = registry()
    if is_reference(name):
        return [], [found.described(name)]
    plugins = [plugin for plugin in found.plugins if name in (plugin.distribution, plugin.name)]
    if plugins:
        return plugins, [Provider(record, plugin) for plugin in plugins for record in plugin.records]
    everything = [Provider(record, plugin) for plugin in found.plugins for record in plugin.records]
    if providers := [p for p in everything if name in (p.record.name, f"{p.record.kind}:{p.record.name}")]:
        return [], providers
    known = {p.distribution for p in found.plugins} | {p.record.name for p in everything}
    raise PluginError(f"there is no plugin or component {name!r}{nearest(name, known)}; is it installed?")


def parametrize_with_checks(
    name: str,
    *,
    options: Mapping[str, Mapping[str, Any]] = {},
    expected_failures: Mapping[str, Mapping[str, str]] = {},
    image_shape: tuple[int, int, int] = SHAPE,
) -> pytest.MarkDecorator:
    """A decorator that runs a test for each component and check of an installed distribution, as its argument `check`.

    Args:
        name: the distribution, or one plugin or component of it.
        options: the options of components by `"kind:name"`, such as `{"method:foo": {"encoder": {"hidden": [16]}}}`.
            Give those that are required, and those that make a component small.
        expected_failures: the reasons why checks fail, by component and check, such as
            `{"method:foo": {"overfits_one_batch": "its target moves"}}`. A check that passes after all is a failure.
        image_shape: (C, H, W) of the images that networks are tested with.
    """
    import pytest

    def parameter(check: Check) -> Any:
        known = pytest.mark.xfail(reason=check.expected_failure, strict=True) if check.expected_failure else ()
        return pytest.param(check, id=str(check), marks=known)

    found = checks(name, options, expected_failures, image_shape)
    return pytest.mark.parametrize("check", [parameter(check) for check in found])
