"""The options of a run. `RunConfig` is what config.toml holds, and what `sslx run` and `sslx.run` fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sslx.core import options as _options
from sslx.core.errors import ConfigError, PluginError
from sslx.core.interfaces import Dataset, Evaluator, Loader, Method, ViewPolicy
from sslx.core.options import Component, make, option, options_of, slot


class Training(Component):
    """How the method is trained."""

    epochs: int = option(default=20, ge=0, help="passes over the training set")
    batch_size: int = option(default=64, gt=0, help="N, images of a step over all processes; each gives J views")
    optimizer: Literal["adam", "adamw", "sgd", "lars"] = option(default="adam", help="the optimiser")
    lr: float = option(default=1e-3, gt=0, help="learning rate, after warm-up")
    schedule: Literal["constant", "cosine"] = option(default="constant", help="learning rate after warm-up")
    warmup_epochs: float = option(default=0.0, ge=0, help="epochs over which the learning rate rises linearly")
    weight_decay: float = option(default=0.0, ge=0, help="L2 penalty; decoupled for adamw")
    momentum: float = option(default=0.9, ge=0, lt=1, help="of sgd and lars")
    betas: tuple[float, float] = option(default=(0.9, 0.999), ge=0, lt=1, help="of adam and adamw")
    eps: float = option(default=1e-8, gt=0, help="of adam and adamw; SimVAE's code has 1e-4")
    clip_norm: float | None = option(default=None, gt=0, help="largest norm of the gradient; none: no clipping")
    cpu_seconds: float | None = option(
        default=None, gt=0, help="stop training after this much processor time, whatever the epochs; for equal budgets"
    )
    precision: Literal["fp32", "bf16"] = option(default="fp32", help="bf16: autocast to bfloat16")
    compile: bool = option(default=False, help="compile the method with torch.compile")
    checkpoint_minutes: float = option(default=10.0, gt=0, help="time between checkpoints")
    checkpoint_steps: int | None = option(default=None, gt=0, help="also a checkpoint every so many steps")
    checkpoint_keep: int = option(default=2, ge=2, help="checkpoints kept; one may be damaged, so at least two")
    log_every: int = option(default=10, gt=0, help="steps between records in metrics.jsonl")


EVALUATORS = ("knn", "linear")


class RunConfig(Component):
    """Everything that decides what a run computes."""

    method: Method = slot(default=None, help="what is trained")
    dataset: Dataset = slot(default="digits", help="what it is trained on")
    views: ViewPolicy = slot(default="standard", help="how views are made")
    loader: Loader = slot(default="memory", help="how images reach the device")
    evaluators: dict[str, Evaluator] = slot(
        default=dict.fromkeys(EVALUATORS, {}), help="what the representation is scored by"
    )
    train: Training = slot(default=None, help="how it is trained")
    seed: int = option(default=0, ge=0, help="decides everything that is random")
    subset: int | None = option(default=None, gt=0, help="use a seeded sample of so many training images")


_options.around["method"] = RunConfig  # `--set` can be meant for either

#: Sections that `--set` can address beside the method's own options.
SECTIONS = tuple(name for name in options_of(RunConfig) if name not in ("method", "seed", "subset"))


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers win. Choosing another component for a slot drops the options meant for the one before."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            old = result.get(name)
            if isinstance(value, str) and isinstance(old, Mapping):
                value = {"use": value}  # "memory" and {"use": "memory"} are the same choice
            if isinstance(value, Mapping) and isinstance(old, str):
                old = {"use": old}
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                same = "use" not in value or value["use"] == old.get("use")
                value = merge(old, value) if same else dict(value)
            result[name] = value
    return result


def layer(choices: Mapping[str, Any]) -> dict[str, Any]:
    """`{"prior.variance": 0.1, "train.lr": 1e-3}` as a layer. A key is the method's unless it begins with a section."""
    result: dict[str, Any] = {}
    for key, value in choices.items():
        first, *_ = key.split(".")
        result = overlay(result, deep(key if first in options_of(RunConfig) else f"method.{key}", value))
    return result


def deep(key: str, value: Any) -> dict[str, Any]:
    """ "a.b", 1 -> {"a": {"b": 1}}"""
    for name in reversed(key.split(".")):
        value = {name: value}
    return dict(value)


def overlay(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Unlike `merge`, keep options set before their component was chosen: the order of settings is of no matter."""
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and not isinstance(value, dict):
            value = {"use": value}
        if isinstance(before, str) and isinstance(value, dict):
            before = {"use": before}
        old[name] = overlay(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return old


def configure(*layers: Mapping[str, Any], evaluators: Sequence[str] | None = None) -> RunConfig:
    """The config from the user's layers, later ones winning, over what dataset and method recommend.

    Raises ConfigError with one line for each mistake in all of it.

    Args:
        evaluators: names to use, with whatever options the layers give them; by default all that the layers name.
    """
    user = merge(*layers)
    if evaluators is not None:
        user["evaluators"] = {name: user.get("evaluators", {}).get(name, {}) for name in evaluators}
    use, method = _method(user)
    dataset = _dataset(user)
    recommended = [_suited(dataset.recommended() if dataset is not None else {}, use, method), method.defaults]
    problems: list[str] = []
    config = make(RunConfig, merge(*recommended, user), "", problems)
    if problems:
        raise ConfigError(problems)
    assert isinstance(config, RunConfig)
    return config


def _chosen(part: str, user: Mapping[str, Any]) -> tuple[Any, str]:
    """A component, or the reference and options of one, that will fill `part`; and who chose it by default."""
    default = options_of(RunConfig)[part].default
    choice = user.get(part, default)
    if isinstance(choice, Component):
        return choice, ""
    choice = {"use": default, **choice} if isinstance(choice, Mapping) else {"use": choice}
    return choice, "sslx" if choice["use"] == default else ""


def _dataset(user: Mapping[str, Any]) -> Dataset | None:
    """The dataset as it will be; none if something of it is wrong, which is reported later."""
    choice, owner = _chosen("dataset", user)
    made = choice if isinstance(choice, Component) else make(Dataset, choice, "dataset", [], owner=owner)
    return made if isinstance(made, Dataset) else None


def _method(user: Mapping[str, Any]) -> tuple[str | None, type[Component]]:
    """The reference and class of the method; no class if the choice is wrong, which is reported later."""
    choice, owner = _chosen("method", user)
    if isinstance(choice, Component):
        return None, type(choice)
    try:
        cls = _options.resolver("method", choice["use"], owner).cls
    except (PluginError, ConfigError, AttributeError):
        cls = Component
    return choice["use"], cls if isinstance(cls, type) and issubclass(cls, Component) else Component


def _suited(defaults: Mapping[str, Any], use: str | None, method: type[Component]) -> Mapping[str, Any]:
    """What a dataset recommends; of its "method" the parts that the chosen one uses, and the options that it has.

    Not those that a method sets for itself, as one without some term sets that term's weight to 0.
    """
    slots = options_of(method) if use is not None and method is not Component else {}
    parts = defaults.get("method", {})

    def suits(name: str, part: Any) -> bool:
        if name not in slots or (slots[name].slot is not None) is not isinstance(part, Mapping):
            return False
        if slots[name].slot is not None:
            return bool(slots[name].default == part["use"])
        components = [c for c in method.__mro__ if issubclass(c, Component) and c is not Component]
        *_, declared = (c for c in components if name in options_of(c))
        return bool(slots[name].default == options_of(declared)[name].default)

    kept = {name: part for name, part in parts.items() if suits(name, part)}
    return {**defaults, "method": {"use": use, **kept} if kept else {}}
