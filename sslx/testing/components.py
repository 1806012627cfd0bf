"""Checks of every component, and the list of those of each kind."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
import click
import torch
from torch import Tensor

from sslx.core.interfaces import INTERFACES, Context
from sslx.core.options import make, options_of, to_dict
from sslx.core.toml import dumps, loads
from sslx.core.views import Views
from sslx.plugins.registry import Provider, registry

_Check = TypeVar("_Check", bound="Callable[[Subject], None]")
N, J = 8, 2


@attrs.frozen
class Subject:
    """A component under test. `build()` returns a new instance, always with the same initial weights."""

    provider: Provider
    options: Mapping[str, Any]
    image_shape: tuple[int, int, int]

    @property
    def kind(self) -> str:
        return self.provider.record.kind

    @property
    def reference(self) -> str:
        return self.provider.reference

    @property
    def cls(self) -> Any:
        return registry().resolve(self.kind, self.reference).cls

    def make(self, **options: Any) -> Any:
        """The component with its options, without parameters."""
        return make(INTERFACES[self.kind], {"use": self.reference, **self.options, **options}, self.kind)

    def build(self, **known: Any) -> Any:
        """The component with its parameters."""
        torch.manual_seed(0)
        part = self.make()
        part.build(self.context(**known))
        return part

    @property
    def arity(self) -> int:
        return arity_of(self.make())

    def context(self, **known: Any) -> Context:
        facts = {"image_shape": self.image_shape, "samples": N, "views": J, "steps": 200, "arity": self.arity}
        return Context(**{**facts, **known})

    def views(self) -> Views:
        """N random images, or the largest number below that makes complete sets. Their J views differ by noise."""
        generator, n = torch.Generator().manual_seed(1), N - N % self.arity
        original = torch.rand(n, *self.image_shape, generator=generator)
        x = original[:, None] + 0.1 * torch.rand(n, J, *self.image_shape, generator=generator)
        return Views(x / 1.1, original, torch.arange(n))


def is_what_its_record_says(subject: Subject) -> None:
    """The target of the record can be imported and implements the interface of its kind."""
    if subject.kind == "command":
        assert isinstance(subject.cls, click.Command), f"expected a click.Command, got {subject.cls!r}"
    else:
        subject.make()


def is_documented(subject: Subject) -> None:
    """There is a summary for lists, a docstring for `sslx plugins show`, and a help text for every option."""
    cls = subject.cls
    assert subject.provider.record.summary, "its record has no summary"
    assert cls.help if isinstance(cls, click.Command) else cls.__dict__.get("__doc__"), "it has no docstring"
    if not isinstance(cls, click.Command):
        silent = [name for name, option in options_of(cls).items() if not option.help.strip()]
        assert not silent, f"options without help: {', '.join(silent)}"


def options_go_through_toml(subject: Subject) -> None:
    """The config.toml of a run makes an equal component."""
    if subject.kind == "command":
        return
    written = to_dict(subject.make())
    read = loads(dumps({"part": written}))["part"]
    again = to_dict(make(INTERFACES[subject.kind], read, "part"))
    assert again == written, f"the options were {written}, and are {again} when read from config.toml"


CHECKS = (is_what_its_record_says, is_documented, options_go_through_toml)

_MODULES = ("data", "energies", "losses", "methods", "networks", "optimizers", "scores", "studies", "trackers")
_OF_KIND: dict[str, list[Callable[[Subject], None]]] = {}


def check(*kinds: str) -> Callable[[_Check], _Check]:
    """A decorator that makes a function a check of the components of these kinds."""

    def register(function: _Check) -> _Check:
        for kind in kinds:
            _OF_KIND.setdefault(kind, []).append(function)
        return function

    return register


def checks_of(kind: str) -> tuple[Callable[[Subject], None], ...]:
    """The checks of one kind, beyond those of every component."""
    for module in _MODULES:
        importlib.import_module(f"sslx.testing.{module}")
    return tuple(_OF_KIND.get(kind, ()))


def arity_of(method: Any) -> int:
    """The number of images that belong together for a method: those that its rule is about, if it has one."""
    rule = getattr(method, "constraint", None)
    return 1 if rule is None else len(rule.domains)


def state_of(module: Any) -> dict[str, Tensor]:
    """A copy of everything that a checkpoint holds of a component."""
    local = module.local_state().items() if hasattr(module, "local_state") else ()
    found = {**module.state_dict(), **{f"local.{name}": value for name, value in local}}
    return {name: value.clone() for name, value in found.items()}


def same(a: Any, b: Any) -> bool:
    """Whether two states, which may be nested, are equal bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and a.equal(b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
