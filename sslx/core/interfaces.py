"""The interfaces. A method of any family is made of these and of nothing else.

N images, J related views of each, B = N·J, D dimensions of the latent; images are (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from typing_extensions import Self

from sslx.core.data import Split
from sslx.core.errors import ConfigError, DataError, PluginError
from sslx.core.options import Component, label, option, options_of, slot
from sslx.core.terms import Terms
from sslx.core.views import Views

__all__ = [
    "Constraint", "Context", "Dataset", "Decoder", "Encoder", "Energy", "Evaluation", "Evaluator", "Features",
    "Likelihood", "Loader", "Method", "Module", "Objective", "Optimizer", "Posterior", "Prior", "Result", "Tracker",
    "ViewPolicy",
]  # fmt: skip


@attrs.frozen
class Context:
    """What is known when networks are made. Parts built later see what earlier ones add."""

    image_shape: tuple[int, int, int]  # (C, H, W)
    samples: int  # size of the training set
    views: int = 2  # J
    steps: int = 0  # of the whole training, for schedules
    arity: int = 1  # consecutive images of a batch that belong together, as in Split
    latent: int = 0  # D, known once the encoder is built
    features: int = 0  # width of the layer that a posterior stands on

    def but(self, **changes: Any) -> Self:
        return attrs.evolve(self, **changes)


class Module(Component, nn.Module):
    """A component with parameters. Its constructor stores options; `build` makes parameters, once shapes are known."""

    def __attrs_pre_init__(self) -> None:
        nn.Module.__init__(self)

    __repr__ = nn.Module.__repr__

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)  # type: ignore[misc]
        except AttributeError as error:
            if name[0] == "_" or any(True for _ in self.parameters()):
                raise
            raise AttributeError(
                f"{error}; is it used before `build(Context(...))`, which makes its networks?"
            ) from None

    def build(self, ctx: Context) -> Context:
        """Build the parts in the order they are declared. Returns the context for whatever is built next."""
        for _, part in list(self.parts()):
            ctx = part.build(ctx)
        return ctx

    def parts(self) -> Iterator[tuple[str, Module]]:
        """The components that this one is made of, by name."""
        return ((name, part) for name, part in self.named_children() if isinstance(part, Module))

    def lacks(self) -> Collection[type]:
        """Capabilities that this instance does not have although its class defines their functions."""
        return ()

    def extra_repr(self) -> str:
        """The plain options, beside the parts that torch prints."""
        plain = (name for name, option in options_of(type(self)).items() if option.slot is None)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in plain)

    def after_step(self, step: int) -> None:
        """Called on every process after each update, of the method and through it of its parts: teachers, queues.

        `forward` may be repeated, this is not: what a step remembers is written here.
        """
        for _, part in self.parts():
            part.after_step(step)

    def local_state(self) -> dict[str, Tensor]:
        """State that differs between processes, such as a replay buffer. Buffers hold what is equal on all."""
        return {f"{name}.{key}": value for name, part in self.parts() for key, value in part.local_state().items()}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `local_state` returned."""
        for name, part in self.parts():
            mine = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            part.load_local_state(mine)


class Posterior(Module, kind="posterior", must_define=("forward",)):
    """The last layer of an encoder: what kind of distribution q(z|x) is."""

    def forward(self, h: Tensor) -> Distribution:
        """(B, ctx.features) -> a distribution with batch (B,) and event (ctx.latent,)."""
        raise NotImplementedError

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (D, F) and bias (D,) of the mean, where it is W h + b. Raises ConfigError where it is not."""
        raise ConfigError(f"the mean of {type(self).__name__} is no linear function of the features")


class Encoder(Module, kind="encoder", must_define=("build", "features or forward")):
    """q(z|x): a network with a posterior on top, or anything that returns a distribution."""

    dim: int = option(default=10, gt=0, help="D, dimensions of the latent")
    posterior: Posterior = slot(default="gaussian", help="what kind of distribution q(z|x) is")

    def build(self, ctx: Context) -> Context:
        """Make the layers, then `return self.head(ctx, features)` with the width of the last of them."""
        raise NotImplementedError

    def head(self, ctx: Context, features: int) -> Context:
        """Build the posterior on `features` inputs and make D known to the parts that follow."""
        self.posterior.build(ctx.but(features=features, latent=self.dim))
        return ctx.but(latent=self.dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F), the last layer below the posterior. Raises ConfigError if there is none."""
        raise ConfigError(f"{type(self).__name__} has no features below its distribution")

    def forward(self, x: Tensor) -> Distribution:
        """(B, C, H, W) -> a distribution with batch (B,) and event (D,). Its `.mean` is the representation."""
        q: Distribution = self.posterior(self.features(x))
        return q

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The same features as a timm model: `config.json` as timm reads it, and the weights by timm's names.

        `{"architecture": NAME, "pretrained_cfg": {"classifier": NAME}}` is the least that a config has. Raises
        ConfigError where timm has no such network.
        """
        raise ConfigError(f"timm has no network such as {type(self).__name__}")


class Likelihood(Module, kind="likelihood", must_define=("forward",)):
    """The last step of a decoder: what kind of distribution p(x|z) is."""

    def forward(self, h: Tensor) -> Distribution:
        """(B, C, H, W) of unbounded network output -> a distribution with batch (B,) and event (C, H, W)."""
        raise NotImplementedError


class Decoder(Module, kind="decoder", must_define=("build", "forward")):
    """p(x|z)."""

    likelihood: Likelihood = slot(default="gaussian", help="what kind of distribution p(x|z) is")

    def forward(self, z: Tensor) -> Distribution:
        """(B, D) -> a distribution with batch (B,) and event (C, H, W)."""
        raise NotImplementedError


class Prior(Module, kind="prior", must_define=("log_prob",)):
    """p(z¹…zᴶ | y): how the latents of related views are distributed."""

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, J, D) -> (N,), the log density of each set of J related latents, up to a constant if improper."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """`log_prob`, with its shape checked."""
        return _one_each(self.log_prob(z), len(z), type(self))

    @property
    def proper(self) -> bool:
        """Whether one can draw from it: it defines `sample`."""
        return type(self).sample is not Prior.sample

    def sample(self, n: int, views: int = 1) -> Tensor:
        """n sets of J related latents, (n, J, D). Only proper priors define it."""
        raise NotImplementedError(f"{type(self).__name__} is improper: nothing can be drawn from it")


class Constraint(Module, kind="constraint", must_define=("domains", "log_prob")):
    """A rule that the classes of n images which belong together obey. Called as `constraint(log_p)`."""

    @property
    def domains(self) -> tuple[int, ...]:
        """(d₁…dₙ), how many values each variable has. A subclass may define a property or a plain tuple."""
        raise NotImplementedError

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        """n times (B, dᵢ) -> (B,): the log probability that the rule holds, exact and in log space.

        The variables are independent, and variable i takes value v with probability exp(log_p[i][:, v]).
        """
        raise NotImplementedError

    def forward(self, log_p: Sequence[Tensor]) -> Tensor:
        """`log_prob`, with all shapes checked."""
        shapes, B = [tuple(p.shape) for p in log_p], len(log_p[0]) if log_p else 0
        if shapes != [(B, d) for d in self.domains]:
            expected = ", ".join(f"(B, {d})" for d in self.domains)
            raise ConfigError(f"{type(self).__name__} takes log-probabilities of shapes {expected}; got {shapes}")
        return _one_each(self.log_prob(log_p), B, type(self))


def _one_each(log_p: Any, n: int, cls: type) -> Tensor:
    if not isinstance(log_p, Tensor) or log_p.shape != (n,):
        got = tuple(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
        raise PluginError(f"{cls.__name__}.log_prob must return a tensor of shape ({n},), it returned {got}")
    return log_p


class Objective(Module, kind="objective", must_define=("forward",)):
    """A loss on the embeddings of related views."""

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        """Embeddings of the trained branch, (N, V, D), and of the target branch, (N, J, D) -> terms.

        N is over all processes. View j of one and of the other branch are the same view; the trained branch can have
        further ones, of local crops: V >= J.
        """
        raise NotImplementedError


class Energy(Module, kind="energy", must_define=("forward", "sample")):
    """How an unnormalised density f(x) = log p(x) + constant, `model.log_density`, is trained and drawn from.

    `model` is the method itself, not what wraps it for several processes.
    """

    weight: float = option(default=1.0, gt=0, help="of this term in the loss")

    def forward(self, model: Method, x: Tensor) -> Terms:
        """(B, C, H, W) images to make likelier -> the terms of the loss."""
        raise NotImplementedError

    def sample(self, model: Method, n: int) -> Tensor:
        """Images drawn from p(x), (n, C, H, W). Called in evaluation mode, without gradient."""
        raise NotImplementedError


class Method(Module, kind="method", must_define=("forward", "represent")):
    """What is trained.

    Methods that can do more define the functions of `sslx.core.capabilities`: `reconstruct`, `decode`, `sample`,
    `log_density`, `cluster`, `diagnosis`. Evaluators and pictures use them as they use `represent`.
    """

    def forward(self, views: Views) -> Terms:
        """The loss of one batch. Plain torch: randomness is seeded, devices and processes are the engine's."""
        raise NotImplementedError

    def represent(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the representation that is evaluated. Called in evaluation mode, without gradient."""
        raise NotImplementedError

    def before_epoch(self, epoch: int) -> None:
        """Called on every process before each epoch, with torch seeded for the epoch, alike on all processes."""


class Optimizer(Component, kind="optimizer", must_define=("build",)):
    """How weights follow their gradients: an optimizer of torch, and the learning rate of each step.

    Torch's optimizer reads its rate from `group["lr"]`, a tensor of one number that changes from step to step.
    """

    lr: float = option(default=1e-3, gt=0, help="Learning rate after warm-up.")
    weight_decay: float = option(default=0.0, ge=0, help="Weight of the L2 penalty; AdamW decouples it from the rate.")
    decay_vectors: bool = option(
        default=False, help="Whether biases and normalization weights, which have one dimension, are decayed as well."
    )
    schedule: Literal["constant", "cosine"] = option(default="constant", help="Learning rate after warm-up.")
    warmup_epochs: float = option(default=0.0, ge=0, help="Epochs over which the learning rate rises linearly.")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Torch's optimizer of these parameter groups, which are as `torch.optim` takes them."""
        raise NotImplementedError

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """The trained weights of a module, those that are decayed and those that are not."""
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        decayed = [weight for weight in weights if self.decay_vectors or weight.ndim > 1]
        others = [weight for weight in weights if not self.decay_vectors and weight.ndim <= 1]
        groups = [(decayed, self.weight_decay), (others, 0.0)]
        return [{"params": params, "weight_decay": decay} for params, decay in groups if params]

    def rate(self, step: int, total: int, per_epoch: int) -> float:
        """The learning rate of a step, a pure function of its number: linear warm-up, then constant or cosine to 0.

        Args:
            total: steps of the whole training.
            per_epoch: steps of an epoch.
        """
        warmup = round(self.warmup_epochs * per_epoch)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.schedule == "constant":
            return self.lr
        progress = (step - warmup) / max(1, total - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


# --- data -------------------------------------------------------------------------------------------------------------


class Dataset(Component, kind="dataset", must_define=("load",)):
    """A training and a test set of images. No transforms: views are made where they are used."""

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        """Training and test split, read below `folder`; downloaded there if missing, unless `offline`.

        Raises DataError, saying where it looked and what to do.
        """
        raise NotImplementedError

    def halves(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        """`load`, with what it returns checked. Raises DataError."""
        name, halves = label(self), self.load(folder, offline)
        if not (isinstance(halves, tuple) and len(halves) == 2 and all(isinstance(half, Split) for half in halves)):
            raise DataError(f"dataset {name}: load must return a training and a test Split")
        train, test = halves
        for half, which in ((train, "training"), (test, "test")):
            if problem := half.problem():
                raise DataError(f"dataset {name}: {which} split: {problem}")
        if train.images.shape[1:] != test.images.shape[1:]:
            raise DataError(f"dataset {name}: training and test images differ in shape")
        return train, test

    def recommended(self) -> Mapping[str, Any]:
        """Settings of a run on it that a user's override: `defaults`, unless they depend on its options."""
        return self.defaults


class Loader(Component, kind="loader", must_define=("open", "batches")):
    """Brings images to the device, in the order that it is told."""

    def open(self, split: Split, device: torch.device) -> None:
        raise NotImplementedError

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """For each (n,) tensor of positions, the (n, C, H, W) uint8 images on the device."""
        raise NotImplementedError


class ViewPolicy(Component, kind="views", must_define=("__call__",)):
    """How views of an image are made. A pure function of (seed, epoch, index, view), on any device."""

    count: int = option(default=2, gt=0, help="J, views of each image")

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views.

        Args:
            sizes: heights and widths that the images had before all were made (H, W), (N, 2); None if they had these.
        """
        raise NotImplementedError


# --- evaluation -------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Features:
    """Representations of a split: `z` (n, D) float32 on the CPU, `labels` (n,) int64 or None, `factors` as in Split."""

    z: Tensor
    labels: Tensor | None
    factors: Mapping[str, Tensor]


@attrs.frozen(eq=False)
class Evaluation:
    """What an evaluator is given: features of the clean, full splits, computed once, and the method itself.

    The method is in evaluation mode. `views` is how the run makes views. `load` reads another dataset from where those
    of this run are.
    """

    train: Features
    test: Features
    method: Method
    data: tuple[Split, Split]
    views: ViewPolicy
    device: torch.device
    seed: int
    load: Callable[[Dataset], tuple[Split, Split]]


@attrs.frozen
class Result:
    """Scores by name, headline first, and the protocol by which they were obtained.

    `protocol` is complete, for results.json; `summary` is what a reader of the table must know of it, in one line.
    """

    scores: Mapping[str, float]
    protocol: Mapping[str, Any]
    summary: str


class Evaluator(Component, kind="evaluator", must_define=("evaluate",)):
    """Scores frozen representations. Writes plain torch: the default generators are seeded before `evaluate`."""

    #: The headline score of a representation that tells everything, such as 1.0; None where there is no such score.
    best: ClassVar[float | None] = None

    def skip(self, evaluation: Evaluation) -> str:
        """Why this evaluator does not apply ("the dataset has no labels"), or an empty string."""
        return ""

    def evaluate(self, evaluation: Evaluation) -> Result:
        raise NotImplementedError


# --- runs -------------------------------------------------------------------------------------------------------------


class Tracker(Component, kind="tracker"):
    """Follows the runs that name it, `sslx run --track NAME`, one object for each run and process.

    Its methods are lifecycle hooks, such as `sslx_metrics`, marked with `hookimpl`. One that fails mutes the tracker,
    with one line, and the run goes on.
    """


#: The interface of each kind that has one; a command is a click.Command.
INTERFACES: dict[str, type[Component]] = {
    cls.kind: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Component) and vars(cls).get("kind")
}
