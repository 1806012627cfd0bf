"""The interfaces from which methods of every family are made.

Shapes: N images, J related views of each, B = N·J; D latent dimensions; images are (C, H, W).
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

from sslx.core.chunks import chunked
from sslx.core.data import Split
from sslx.core.distributions import Delta
from sslx.core.errors import ConfigError, DataError, PluginError
from sslx.core.options import Component, label, option, options_of, slot, used_names
from sslx.core.randomness import borrowed
from sslx.core.study import Study
from sslx.core.terms import Terms
from sslx.core.views import Views

__all__ = [
    "Constraint", "Context", "Dataset", "Decoder", "Encoder", "Energy", "Evaluation", "Evaluator", "Features",
    "Likelihood", "Loader", "Method", "Module", "Objective", "Optimizer", "Posterior", "Prior", "Result", "Study",
    "Tracker", "ViewPolicy",
]  # fmt: skip


@attrs.frozen
class Context:
    """What is known when networks are built, mostly sizes. Each part can add to it for the parts built after it."""

    image_shape: tuple[int, int, int]  # (C, H, W) of the views, which may be smaller than the images of the dataset
    samples: int  # number of training images
    views: int = 2  # number of views of each image, J
    steps: int = 0  # number of training steps, for schedules
    arity: int = 1  # number of consecutive images that belong together, as in Split
    latent: int = 0  # width of the latent, D, known once the encoder is built
    features: int = 0  # width of the layer below the posterior
    posterior: Callable[[Tensor], Distribution] | None = None  # q(z|x) of the method's encoder, for images (B, C, H, W)

    def but(self, **changes: Any) -> Self:
        """A copy with these changes."""
        return attrs.evolve(self, **changes)


class Module(Component, nn.Module):
    """A component with parameters. The constructor stores options; `build` makes parameters when shapes are known."""

    #: Smallest number of images in a batch for which its loss is meaningful: 2 if it compares images with each other.
    least_images: ClassVar[int] = 1
    #: Whether it consists of convolutions, which a GPU computes faster on weights that are stored as channels last.
    channels_last: ClassVar[bool] = False
    #: Whether `after_step` only changes buffers and weights that are not trained, in place and by operations on
    #: tensors. Then the engine can undo it on the device, and need not wait there in every step to learn whether the
    #: step was finite. It holds for the class that sets it and for subclasses without an `after_step` of their own.
    gated: ClassVar[bool] = False
    #: Names of tensors of `local_state` whose rows are independent of each other, such as chains of a sampler. A run
    #: that continues with another number of processes divides their rows anew, and refuses other local state.
    divisible: ClassVar[tuple[str, ...]] = ()

    def __attrs_pre_init__(self) -> None:
        nn.Module.__init__(self)

    __repr__ = nn.Module.__repr__

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError as error:
            if name[0] == "_" or any(True for _ in self.parameters()):
                raise
            advice = "is it used before `build(Context(...))`, which makes its networks?"
            raise AttributeError(f"{error}; {advice}") from None

    def build(self, ctx: Context) -> Context:
        """Build the parts in the order of their declaration. Returns the context for the parts that are built next."""
        for _, part in list(self.parts()):
            ctx = part.build(ctx)
        return ctx

    def begin(self, train: Split) -> None:
        """Look at the training images once, before the first step, for weights that depend on them, as of `pca`.

        Called after `build`, on every process alike. The default calls it on all parts.
        """
        for _, part in self.parts():
            part.begin(train)

    def parts(self) -> Iterator[tuple[str, Module]]:
        """The parts of this component that are modules themselves, with their names."""
        return ((name, part) for name, part in self.named_children() if isinstance(part, Module))

    def lacks(self) -> Collection[type]:
        """Capabilities that this instance does not have although its class defines their functions."""
        return ()

    def extra_repr(self) -> str:
        """The plain options, which `repr` shows beside the parts that torch prints."""
        plain = (name for name, option in options_of(type(self)).items() if option.slot is None)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in plain)

    def after_step(self, step: int) -> None:
        """Update state that is not trained, such as teachers and queues. Called on every process after each update.

        The default calls it on all parts. State must change here and not in `forward`, which may be repeated.
        """
        for _, part in self.parts():
            part.after_step(step)

    def local_state(self) -> dict[str, Tensor]:
        """State that differs between processes, such as a replay buffer. Equal state belongs in torch's buffers."""
        return {f"{name}.{key}": value for name, part in self.parts() for key, value in part.local_state().items()}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore state that `local_state` returned."""
        for name, part in self.parts():
            mine = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
            part.load_local_state(mine)


class Posterior(Module, kind="posterior", must_define=("forward",)):
    """The last layer of an encoder, which returns the distribution q(z|x)."""

    #: Whether an encoder can do without it (`encoder.dim=0`), because it is a point.
    deterministic: ClassVar[bool] = False

    def forward(self, h: Tensor) -> Distribution:
        """(B, ctx.features) -> a distribution with batch (B,) and event (ctx.latent,)."""
        raise NotImplementedError

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight W (D, F) and bias b (D,) of the mean W h + b. Raises ConfigError if the mean is not linear."""
        raise ConfigError(f"the mean of {type(self).__name__} is not a linear function of the features")


class Encoder(Module, kind="encoder", must_define=("build", "features or forward")):
    """q(z|x): a network with a posterior on top, or any other network that returns a distribution.

    The network is built for the size of the views. It may be given images of other sizes: local views, and the images
    of the dataset if views are smaller. A network that takes only one size can scale them with `resized`.
    """

    dim: int = option(
        default=10, ge=0, help="Number of latent dimensions (D); 0: no last layer, the features are the latent."
    )
    posterior: Posterior = slot(default="tamed-gaussian", help="Distribution of the latents given an image, q(z|x).")

    def __init_subclass__(cls, **changed: Any) -> None:
        """Hide the options above from users where the class defines `forward` and does not use them there."""
        super().__init_subclass__(**changed)
        own = [c for c in cls.__mro__ if not issubclass(Encoder, c)]
        if cls.forward is not Encoder.forward and "super" not in used_names(cls.forward):
            code = [value for c in own for name, value in vars(c).items() if name != "__attrs_init__"]
            used = set[str]().union(*map(used_names, code))
            used |= {"dim"} if "head" in used else set()
            declared = {name for c in own for name in vars(c).get("__annotations__", {})}
            cls.ignored = frozenset({"dim", "posterior"} - used - declared)

    def build(self, ctx: Context) -> Context:
        """Make the layers, then `return self.head(ctx, features)` with the width of the last layer."""
        raise NotImplementedError

    def head(self, ctx: Context, features: int) -> Context:
        """Build the posterior on `features` inputs and add D to the context."""
        if self.dim == 0:
            if not self.posterior.deterministic:
                raise ConfigError(
                    f"encoder.dim: 0 leaves out the last layer, and {type(self.posterior).__name__} is a distribution "
                    "that needs it; expected at least 1, or encoder.posterior=delta"
                )
            return ctx.but(latent=features)
        self.posterior.build(ctx.but(features=features, latent=self.dim))
        return ctx.but(latent=self.dim)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F), the output of the layer below the posterior. Raises ConfigError if there is none."""
        raise ConfigError(f"{type(self).__name__} has no features below its distribution")

    def forward(self, x: Tensor) -> Distribution:
        """(B, C, H, W) -> a distribution with batch (B,) and event (D,). Its `.mean` is the representation."""
        h = chunked(self, self.features, x)
        q: Distribution = self.posterior(h) if self.dim else Delta(h.float())
        return q

    def timm(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The same features as a timm model: the content of `config.json`, and the weights by timm's names.

        The config has at least `{"architecture": NAME, "pretrained_cfg": {"classifier": NAME}}`. Raises ConfigError if
        timm has no such network.
        """
        raise ConfigError(f"timm has no network such as {type(self).__name__}")


class Likelihood(Module, kind="likelihood", must_define=("forward",)):
    """The last layer of a decoder, which returns the distribution p(x|z)."""

    def forward(self, h: Tensor) -> Distribution:
        """(B, C, H, W) of unbounded network output -> a distribution with batch (B,) and event (C, H, W)."""
        raise NotImplementedError


class Decoder(Module, kind="decoder", must_define=("build", "forward")):
    """p(x|z): a network that returns a distribution of images for each latent."""

    likelihood: Likelihood = slot(default="gaussian", help="Distribution of an image given its latent, p(x|z).")

    def forward(self, z: Tensor) -> Distribution:
        """(B, D) -> a distribution with batch (B,) and event (C, H, W)."""
        raise NotImplementedError


class Prior(Module, kind="prior", must_define=("log_prob",)):
    """p(z¹…zᴶ | y): the joint distribution of the latents of related views."""

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, J, D) -> (N,), the log density of each set of J related latents; up to a constant if improper."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """`log_prob` in float32 at least, with its shape checked."""
        with _float32(z):
            return _one_each(self.log_prob(_widened(z)), len(z), type(self))

    @property
    def proper(self) -> bool:
        """Whether the prior can be sampled, which is so if it defines `sample`."""
        return type(self).sample is not Prior.sample

    def sample(self, n: int, views: int = 1) -> Tensor:
        """n sets of J related latents, (n, J, D). Only proper priors define this."""
        raise NotImplementedError(f"{type(self).__name__} is improper and cannot be sampled")


class Constraint(Module, kind="constraint", must_define=("domains", "log_prob")):
    """A rule for the classes of n images that belong together. Called as `constraint(log_p)`."""

    @property
    def domains(self) -> tuple[int, ...]:
        """(d₁…dₙ), the number of values of each variable. A subclass may define a property or a plain tuple."""
        raise NotImplementedError

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        """n tensors (B, dᵢ) -> (B,): the log probability that the rule holds, exact and computed in log space.

        The variables are independent, and variable i takes value v with probability exp(log_p[i][:, v]).
        """
        raise NotImplementedError

    def forward(self, log_p: Sequence[Tensor]) -> Tensor:
        """`log_prob`, with all shapes checked."""
        shapes, B = [tuple(p.shape) for p in log_p], len(log_p[0]) if log_p else 0
        if shapes != [(B, d) for d in self.domains]:
            expected = ", ".join(f"(B, {d})" for d in self.domains)
            raise ConfigError(f"{type(self).__name__} takes log-probabilities of shapes {expected}; got {shapes}")
        with _float32(log_p[0]):
            return _one_each(self.log_prob([_widened(p) for p in log_p]), B, type(self))


def _float32(x: Tensor) -> torch.autocast:
    """Context in which nothing is computed in 16 bits, as losses need it."""
    return torch.autocast(x.device.type, enabled=False)


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _one_each(log_p: Any, n: int, cls: type) -> Tensor:
    if not isinstance(log_p, Tensor) or log_p.shape != (n,):
        got = tuple(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
        raise PluginError(f"{cls.__name__}.log_prob must return a tensor of shape ({n},), it returned {got}")
    return log_p


class Objective(Module, kind="objective", must_define=("forward",)):
    """A loss on the embeddings of related views.

    `loss(z1, z2)` on two batches of embeddings (N, D), where row i of both belongs to image i, is the loss of a method
    with these two views, as a scalar. Stop a gradient with `detach`. The embeddings are those of one process: `gather`
    joins them first. An objective with state of its own is built at the first such call, and `after_step` updates it.
    """

    #: What it needs besides the embeddings of two views, in words; empty if nothing.
    needs: ClassVar[str] = ""

    def __call__(self, online: Tensor, target: Tensor) -> Any:
        """Two batches (N, D) -> their loss, a scalar; otherwise `forward`. Raises ConfigError for wrong shapes."""
        if online.ndim == 3:
            with _float32(online):
                return super().__call__(_widened(online), _widened(target))
        name, shapes = type(self).__name__, [tuple(online.shape), tuple(target.shape)]
        if self.needs:
            raise ConfigError(f"{name}: two batches of embeddings are not enough; it needs {self.needs}")
        if online.ndim != 2 or shapes[0] != shapes[1] or len(online) < self.least_images:
            expected = f"two batches of embeddings (N, D) with N >= {self.least_images}"
            raise ConfigError(f"{name}: expected {expected}, or (N, V, D) and (N, J, D); got {shapes[0]}, {shapes[1]}")
        if type(self).build is not Module.build and not self.state_dict():
            with borrowed():
                self.build(Context((1, 1, 1), samples=len(online), latent=online.shape[1]))
            self.to(online.device)
        pair = torch.stack([online, target], dim=1)
        with _float32(pair):
            pair = _widened(pair)
            return super().__call__(pair, pair).total

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        """Embeddings of the trained branch (N, V, D) and of the target branch (N, J, D) -> terms.

        N counts the images of all processes. View j is the same in both branches. The trained branch may have further
        views after these, which are local crops: V >= J.
        """
        raise NotImplementedError


class Energy(Module, kind="energy", must_define=("forward", "sample")):
    """Trains and samples an unnormalized log density f(x) = log p(x) + constant, which is `model.log_density`.

    `model` is the method itself, without the wrapper for several processes.
    """

    weight: float = option(default=1.0, gt=0, help="Weight of the energy term in the loss.")

    def forward(self, model: Method, x: Tensor) -> Terms:
        """(B, C, H, W) images whose density should increase -> the terms of the loss."""
        raise NotImplementedError

    def sample(self, model: Method, n: int) -> Tensor:
        """n images drawn from p(x), (n, C, H, W). Called in evaluation mode, without gradient."""
        raise NotImplementedError


class Method(Module, kind="method", must_define=("forward", "represent")):
    """A model that is trained, with its loss.

    It may also define the functions of `sslx.core.capabilities`: `reconstruct`, `decode`, `sample`, `log_density`,
    `cluster` and `diagnosis`. Evaluators and pictures use the ones that it has.
    """

    def forward(self, views: Views) -> Terms:
        """The loss of one batch, in plain torch. The engine seeds randomness and handles devices and processes."""
        raise NotImplementedError

    def represent(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D), the representations to evaluate. Called in evaluation mode, without gradient."""
        raise NotImplementedError

    def representations(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """All representations that can be evaluated, (B, C, H, W) -> (B, D), by name; one of them is `represent`."""
        return {"latent": self.represent}

    def before_epoch(self, epoch: int) -> None:
        """Called on every process before each epoch. Torch is seeded for the epoch, equally on all processes."""


class Optimizer(Component, kind="optimizer", must_define=("build",)):
    """An optimizer of torch with a learning-rate schedule.

    Torch's optimizer reads the rate from `group["lr"]`, a tensor with one number that changes at each step.
    """

    lr: float = option(default=1e-3, gt=0, help="Learning rate at the end of warm-up.")
    weight_decay: float = option(default=0.0, ge=0, help="Weight of the L2 penalty; AdamW decouples it from the rate.")
    decay_vectors: bool = option(default=False, help="Whether biases and normalization weights are decayed as well.")
    schedule: Literal["constant", "cosine"] = option(
        default="constant", help="Course of the rate after warm-up: constant, or falling to 0 along a cosine."
    )
    warmup_epochs: float = option(default=0.0, ge=0, help="Epochs over which the learning rate rises linearly.")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Torch's optimizer for these parameter groups, which have the format of `torch.optim`."""
        raise NotImplementedError

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """The trained weights of a module as two groups: those with weight decay, and the others."""
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        decayed = [weight for weight in weights if self.decay_vectors or weight.ndim > 1]
        others = [weight for weight in weights if not self.decay_vectors and weight.ndim <= 1]
        groups = [(decayed, self.weight_decay), (others, 0.0)]
        return [{"params": params, "weight_decay": decay} for params, decay in groups if params]

    def rate(self, step: int, total: int, per_epoch: int) -> float:
        """Learning rate of a step, a pure function of its number: linear warm-up, then constant or cosine decay to 0.

        Args:
            total: number of training steps.
            per_epoch: number of steps per epoch.
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
    """A training and a test set of images, without transforms: a view policy makes the views later."""

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        """Training and test split, read from below `folder`. Missing files are downloaded there, unless `offline`.

        Raises DataError, which says where the files were expected and what to do.
        """
        raise NotImplementedError

    def halves(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        """`load`, with a check of the result. Raises DataError."""
        name, halves = label(self), self.load(folder, offline)
        if not (isinstance(halves, tuple) and len(halves) == 2 and all(isinstance(half, Split) for half in halves)):
            raise DataError(f"dataset {name}: load must return a training and a test Split")
        train, test = halves
        for half, which in ((train, "training"), (test, "test")):
            if problem := half.problem():
                raise DataError(f"dataset {name}: {which} split: {problem}")
        if not len(train):
            raise DataError(f"dataset {name}: there are no training images")
        if train.images.shape[1:] != test.images.shape[1:]:
            raise DataError(f"dataset {name}: training and test images differ in shape")
        return train, test

    def recommended(self) -> Mapping[str, Any]:
        """Recommended settings of a run on this dataset, which a user's override. By default these are `defaults`."""
        return self.defaults


class Loader(Component, kind="loader", must_define=("open", "batches")):
    """Brings images to the device in a given order."""

    def open(self, split: Split, device: torch.device) -> None:
        """Prepare for reading this split. Called before `batches`."""
        raise NotImplementedError

    def batches(self, indices: Sequence[Tensor]) -> Iterator[Tensor]:
        """For each (n,) tensor of positions, the (n, C, H, W) uint8 images on the device."""
        raise NotImplementedError


class ViewPolicy(Component, kind="views", must_define=("__call__",)):
    """Makes random views of images. A view is a pure function of (seed, epoch, index, view), on any device."""

    count: int = option(default=2, gt=0, help="Number of views of each image (J).")

    def shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the images -> that of the views, for which networks are built. The default changes nothing."""
        return image_shape

    def __call__(self, images: Tensor, index: Tensor, *, seed: int, epoch: int, sizes: Tensor | None = None) -> Views:
        """(N, C, H, W) uint8 images and their (N,) positions in the dataset -> their views.

        Args:
            sizes: heights and widths before the images were resized to (H, W), (N, 2); None if they were not resized.
        """
        raise NotImplementedError


# --- evaluation -------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Features:
    """Representations of a split: `z` (n, D) float32 on the CPU; `labels` (n,) int64 or None; `factors` as in Split."""

    z: Tensor
    labels: Tensor | None
    factors: Mapping[str, Tensor]


def _nothing() -> None:
    """What `heed` does outside of a run."""


@attrs.frozen(eq=False)
class Evaluation:
    """The input of an evaluator: features of both splits without augmentation, and the method itself.

    The features are those of `representation`. The method is in evaluation mode. `views` is the view policy of the run.
    `load` reads another dataset from the same data folder. If `offline`, nothing may be downloaded. An evaluator that
    takes minutes calls `heed` between its epochs: it ends the evaluation after a stop signal, by raising Interrupted.
    """

    train: Features
    test: Features
    method: Method
    data: tuple[Split, Split]
    views: ViewPolicy
    device: torch.device
    seed: int
    load: Callable[[Dataset], tuple[Split, Split]]
    representation: str = "latent"
    offline: bool = False
    heed: Callable[[], None] = attrs.field(factory=lambda: _nothing)


@attrs.frozen
class Result:
    """Scores by name, with the headline score first, and the protocol by which they were obtained.

    `protocol` is complete and goes to results.json. `summary` is one line for readers of the table. `pictures` are
    images by name, (n, C, H, W) floats in [0, 1], drawn in rows of eight in a file of the run's folder.
    """

    scores: Mapping[str, float]
    protocol: Mapping[str, Any]
    summary: str
    pictures: Mapping[str, Tensor] = attrs.field(factory=dict)


class Evaluator(Component, kind="evaluator", must_define=("evaluate",)):
    """Scores frozen representations, in plain torch. The default generators are seeded before `evaluate`."""

    #: Headline score of a perfect representation, for example 1.0; None if it is unbounded.
    best: ClassVar[float | None] = None
    #: Whether tables compare its scores with those of the pixels and of their principal components.
    floors: ClassVar[bool] = False
    #: Whether it takes features of the training images as `Parts`, of which each of several processes has one.
    in_parts: ClassVar[bool] = False

    of: tuple[Literal["features", "latent", "embedding"], ...] = option(
        default=(), help="Representations to score, of features, latent and embedding; [] is that of the method."
    )

    def skip(self, evaluation: Evaluation) -> str:
        """Why this evaluator does not apply ("the dataset has no labels"), or an empty string."""
        return ""

    def evaluate(self, evaluation: Evaluation) -> Result:
        """Compute the scores."""
        raise NotImplementedError


# --- runs -------------------------------------------------------------------------------------------------------------


class Tracker(Component, kind="tracker"):
    """Shows runs elsewhere, such as in a dashboard: `sslx run --track NAME`. Each run and process has its own object.

    Its methods are lifecycle hooks, such as `sslx_metrics`, marked with `hookimpl`. If one fails, the tracker is muted
    with one message and the run continues.
    """


#: The interface of each kind. Commands have none: they are instances of click.Command.
INTERFACES: dict[str, type[Component]] = {
    cls.kind: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Component) and vars(cls).get("kind")
}
