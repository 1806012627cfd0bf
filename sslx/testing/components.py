"""Checks of every component, of whatever kind, and what those of a kind are made with."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import click
import torch
from torch import Tensor

from sslx.core.interfaces import INTERFACES, Context
from sslx.core.options import make, options_of, to_dict
from sslx.core.toml import dumps, loads
from sslx.core.views import Views
from sslx.plugins.registry import Provider, registry

N, J = 8, 2


@attrs.frozen
class Subject:
    """A component under test: `build()` gives a new one, always the same, of which nothing is trained."""

    provider: Provider
    options: Mapping[str, Any]
    image_shape: tuple[int, int, int]

    @property
    def reference(self) -> str:
        return f"{self.provider.plugin.distribution}/{self.provider.record.name}"

    @property
    def cls(self) -> Any:
        return registry().resolve(self.provider.record.kind, self.reference).cls

    def make(self, **options: Any) -> Any:
        """The component with its options, without parameters."""
        kind = self.provider.record.kind
        return make(INTERFACES[kind], {"use": self.reference, **self.options, **options}, kind)

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
        """Images of their own colours, of which J views differ by noise; N, or the most whose sets are complete."""
        generator, n = torch.Generator().manual_seed(1), N - N % self.arity
        original = torch.rand(n, *self.image_shape, generator=generator)
        x = original[:, None] + 0.1 * torch.rand(n, J, *self.image_shape, generator=generator)
        return Views(x / 1.1, original, torch.arange(n))


def is_what_its_record_says(subject: Subject) -> None:
    """The target can be imported, and implements the interface of its kind."""
    kind, cls = subject.provider.record.kind, subject.cls
    if kind == "command":
        assert isinstance(cls, click.Command), f"expected a click.Command, got {cls!r}"
    else:
        subject.make()


def is_documented(subject: Subject) -> None:
    """A summary for lists, a docstring for `sslx plugins show`, and the help of every option."""
    cls = subject.cls
    assert subject.provider.record.summary, "its record has no summary"
    assert cls.help if isinstance(cls, click.Command) else cls.__dict__.get("__doc__"), "it has no docstring"
    if not isinstance(cls, click.Command):
        silent = [name for name, option in options_of(cls).items() if not option.help.strip()]
        assert not silent, f"options without help: {', '.join(silent)}"


def options_go_through_toml(subject: Subject) -> None:
    """A run's config.toml makes an equal component."""
    if subject.provider.record.kind == "command":
        return
    written = to_dict(subject.make())
    read = loads(dumps({"part": written}))["part"]
    again = make(INTERFACES[subject.provider.record.kind], read, "part")
    assert to_dict(again) == written, f"{to_dict(again)} is not {written}"


CHECKS = (is_what_its_record_says, is_documented, options_go_through_toml)

_MODULES = {
    "method": "methods",
    **dict.fromkeys(("encoder", "posterior", "decoder", "likelihood"), "networks"),
    **dict.fromkeys(("prior", "objective", "constraint"), "losses"),
    **dict.fromkeys(("dataset", "loader", "views"), "data"),
    "evaluator": "scores",
    "energy": "energies",
    "tracker": "trackers",
}


def checks_of(kind: str) -> tuple[Callable[[Subject], None], ...]:
    """The checks of one kind, beyond those of all."""
    if kind not in _MODULES:
        return ()
    checks: tuple[Callable[[Subject], None], ...] = importlib.import_module(f"sslx.testing.{_MODULES[kind]}").CHECKS[
        kind
    ]
    return checks


def arity_of(method: Any) -> int:
    """How many images belong together for a method: those that its rule is about, if it has one."""
    rule = getattr(method, "constraint", None)
    return 1 if rule is None else len(rule.domains)


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape and a.equal(b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def state_of(module: Any) -> dict[str, Tensor]:
    """A copy of all of it that a checkpoint holds."""
    local = module.local_state().items() if hasattr(module, "local_state") else ()
    found = {**module.state_dict(), **{f"local.{name}": value for name, value in local}}
    return {name: value.clone() for name, value in found.items()}


def reached(module: torch.nn.Module, loss: Tensor) -> None:
    """The gradient of the loss reaches every parameter that is trained, and none of the others."""
    module.zero_grad()
    loss.backward()
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None and weight.grad.any(), f"no gradient reaches {name}"
        else:
            assert weight.grad is None, f"{name} is not trained, and has a gradient"
