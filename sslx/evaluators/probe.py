"""The trained probes of papers: a linear layer or an MLP on frozen features, by the paper's optimizer and epochs."""

import itertools
import math
from typing import Any, Literal

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslx.api import (
    ConfigError,
    DataError,
    Evaluation,
    Evaluator,
    Result,
    Use,
    ViewPolicy,
    option,
    permutation,
    pixels,
    slot,
)
from sslx.evaluators.common import finite, labels, without_classes

_MOST_HELD_OUT = 5_000  # enough to choose among some rates; more only takes time
_CHUNK = 1024
_NUMBERS = 1 << 22  # most numbers in a batch of images that needs no gradient
_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


class Trained(Evaluator):
    """An evaluator that trains for a number of epochs as papers do, with or without augmented training images."""

    best = 1.0

    optimizer: Literal["sgd", "adam", "adamw"] = option(default="sgd", help="The optimizer, with torch's defaults.")
    momentum: float = option(default=0.9, ge=0, lt=1, help="Momentum of sgd.")
    nesterov: bool = option(default=False, help="Whether the momentum of sgd is Nesterov's.")
    weight_decay: float = option(default=0.0, ge=0, help="Weight of the L2 penalty; adamw decouples it from the rate.")
    epochs: int = option(default=10, gt=0, help="Number of passes over the training images.")
    batch_size: int = option(default=256, gt=0, help="Number of images in a batch.")
    schedule: Literal["constant", "cosine"] = option(
        default="cosine", help="Course of the learning rate over the epochs: constant, or falling along a cosine."
    )
    augment: bool = option(
        default=False, help="Whether every epoch has other random views of the training images, instead of the images."
    )
    views: ViewPolicy | None = slot(
        default=None, help="The view policy that augments the training images; none: that of the run."
    )

    def __attrs_post_init__(self) -> None:
        problems = []
        if self.views is not None and not self.augment:
            problems.append("views: is only used with augment=true, expected this beside it")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            problems.append("nesterov: expected optimizer=sgd with a momentum > 0 beside it")
        if problems:
            raise ConfigError(problems)

    def skip(self, evaluation: Evaluation) -> str:
        return without_classes(evaluation)

    def _optimize(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Torch's optimizer for groups of parameters, each with its learning rate."""
        options: dict[str, Any] = {"weight_decay": self.weight_decay, "fused": True}
        if self.optimizer == "sgd":
            options |= {"momentum": self.momentum, "nesterov": self.nesterov}
        for group in groups:
            group["initial_lr"] = group["lr"]
        found: torch.optim.Optimizer = getattr(torch.optim, _NAMES[self.optimizer])(groups, **options)
        return found

    def _begin(self, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        """Set the learning rates of an epoch, as `CosineAnnealingLR` does once an epoch."""
        factor = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs)) if self.schedule == "cosine" else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _images(self, evaluation: Evaluation, index: Tensor, epoch: int) -> Tensor:
        """Training images at (k,) positions, or one view of each, as floats (k, C, H, W) on the device."""
        train = evaluation.data[0]
        images = train.images[index].to(evaluation.device)
        if not self.augment:
            return pixels(images)
        policy: Any = self.views or evaluation.views
        sizes = None if train.sizes is None else train.sizes[index]
        return attrs.evolve(policy, count=1)(images, index, seed=evaluation.seed, epoch=epoch, sizes=sizes).flat

    def _recipe(self) -> str:
        """How it is trained, in words."""
        images = " of augmented images" if self.augment else ""
        name = ("Nesterov " if self.nesterov else "") + _NAMES[self.optimizer]
        return f"{self.epochs} epochs{images} in batches of {self.batch_size} by {name}"


class Probe(Trained):
    """A linear layer, or an MLP with one hidden layer, trained on the frozen representation by the cross-entropy.

    Several learning rates are trained at once, from the same initial weights and on the same batches, as DINOv2 does.
    With `augment`, the frozen network represents other views of the training images in every epoch. Test images are
    never augmented.

    Scores:
        probe: test accuracy after the last epoch. Of several learning rates it is the one whose network is best on a
            held-out tenth of the training images when it is trained on the others; the score is of all of them.
        probe-best-on-test: the highest test accuracy of all epochs and rates. Papers print this one, which is
            optimistic.
    """

    lr: float | tuple[float, ...] = option(
        default=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), gt=0, help="Learning rate, or several to choose from."
    )
    hidden: int | None = option(
        default=None,
        ge=0,
        help="Width of the hidden layer; 0 is that of the representation. None: a linear probe.",
    )
    standardize: bool = option(
        default=False, help="Whether the features are scaled to mean 0 and variance 1 in the clean training set."
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.lr == ():
            raise ConfigError("lr: expected at least one learning rate")

    def evaluate(self, evaluation: Evaluation) -> Result:
        z, q = (features.to(evaluation.device) for features in finite(evaluation))
        train, test = (label.to(evaluation.device) for label in labels(evaluation))
        classes, codes = train.unique(return_inverse=True)
        mean, deviation = _scaling(z) if self.standardize else (0.0, 1.0)
        x, q = (z - mean) / deviation, (q - mean) / deviation
        hidden = x.shape[1] if self.hidden == 0 else self.hidden
        sizes = (x.shape[1], hidden, len(classes)) if hidden else (x.shape[1], len(classes))
        rates = self.lr if isinstance(self.lr, tuple) else (self.lr,)

        n, seed = len(x), evaluation.seed
        everything, order = torch.arange(n), permutation(n, Use.EVALUATION, seed)
        held_out, rest = order.tensor_split([min(math.ceil(n / 10), _MOST_HELD_OUT)])
        probes = _Networks(sizes, rates, self, evaluation.device)
        trials = _Networks(sizes, rates, self, evaluation.device) if len(rates) > 1 and len(rest) else None
        inputs, accuracies = x, []
        for epoch in range(self.epochs):
            evaluation.heed()
            if self.augment:
                inputs = (self._features(evaluation, epoch) - mean) / deviation
            for networks, index in ((probes, everything), (trials, rest)):
                if networks is not None:
                    self._begin(networks.optimizer, epoch)
                    order = index[permutation(len(index), Use.EVALUATION, seed, epoch)].to(x.device)
                    networks.train(inputs, codes, order.split(self.batch_size))
            accuracies.append(probes.accuracies(q, classes, test))

        tuning, part = None, held_out.to(x.device)
        if trials is not None:
            tuning = trials.accuracies(x[part], classes, train[part])
        chosen = 0 if tuning is None else tuning.index(max(tuning))
        if not probes.finite(chosen):
            raise DataError(f"the probe diverged with the learning rate {rates[chosen]:g}. Try smaller ones")
        most = [max(row) for row in accuracies]
        best = most.index(max(most))
        network = f"an MLP of {hidden} hidden units" if hidden else "a linear layer"
        how = f"the rate {rates[chosen]:g} of {len(rates)}, chosen on {len(held_out)} held-out training images; "
        return Result(
            scores={"probe": accuracies[-1][chosen], "probe-best-on-test": most[best]},
            protocol={
                "trained_on": n,
                "tested_on": len(q),
                "dimensions": x.shape[1],
                "hidden": hidden,
                "rates": list(rates),
                "lr": rates[chosen],
                "lr_chosen_on": None if tuning is None else "a held-out tenth, by training on the other images",
                "held_out": 0 if tuning is None else len(held_out),
                "held_out_accuracies": tuning,  # of each rate
                "test_accuracies": accuracies[-1],  # of each rate after the last epoch
                "best_on_test": "epoch and rate chosen on the test set, as papers do: optimistic, for comparison",
                "epoch_best_on_test": best + 1,
                "lr_best_on_test": rates[accuracies[best].index(most[best])],
            },
            summary=f"{network} on {'standardized' if self.standardize else 'raw'} features, {self._recipe()}; "
            f"{how if tuning is not None else ''}probe-best-on-test chooses the epoch "
            f"{'and the rate ' if len(rates) > 1 else ''}on the test set (optimistic)",
        )

    @torch.no_grad()
    def _features(self, evaluation: Evaluation, epoch: int) -> Tensor:
        """The representation of one view of each training image, (n, D) on the device."""
        represent = evaluation.method.representations()[evaluation.representation]
        images = evaluation.data[0].images
        size = max(1, min(_CHUNK, _NUMBERS // images.shape[1:].numel()))
        parts = torch.arange(len(images)).split(size)
        return torch.cat([represent(self._images(evaluation, index, epoch)).float() for index in parts])


def _scaling(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each dimension of (n, D); the latter is 1 where all values are equal."""
    mean, deviation = z.double().mean(dim=0), z.double().std(dim=0, correction=0)
    deviation[deviation <= 1e-6 * mean.abs()] = 1.0  # rounding error of a constant
    return mean.float(), deviation.float().clamp(min=torch.finfo(torch.float32).tiny)


class _Networks:
    """R equal networks, one for each learning rate, that are trained at once on the same batches.

    The weights of a layer are one tensor (R, outputs, inputs), which takes part in the products. What the optimizer
    updates are its R slices, each in a group with a rate of its own. The gradients are written out: the products of a
    probe are so small that automatic differentiation would take most of the time.
    """

    def __init__(self, sizes: tuple[int, ...], rates: tuple[float, ...], how: Trained, device: torch.device) -> None:
        self.weights: list[Tensor] = []  # of each layer its matrices (R, outputs, inputs) and biases (R, outputs)
        self.gradients: list[Tensor] = []
        groups: list[dict[str, Any]] = [{"params": [], "lr": rate} for rate in rates]
        for inputs, outputs in itertools.pairwise(sizes):
            layer = nn.Linear(inputs, outputs)
            for first in (layer.weight.detach(), layer.bias.detach()):
                weight = first.expand(len(rates), *first.shape).contiguous().to(device)
                gradient = torch.zeros_like(weight)
                for group, mine, its in zip(groups, weight, gradient, strict=True):
                    mine.grad = its
                    group["params"].append(mine)
                self.weights.append(weight)
                self.gradients.append(gradient)
        self.optimizer = how._optimize(groups)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(B, D) -> the output of each layer, (R, B, outputs); those of the last one are logits."""
        first, bias, *others = self.weights
        h = F.linear(x, first.flatten(0, 1), bias.flatten())  # one product for all rates
        found = [h.unflatten(1, bias.shape).transpose(0, 1)]
        for weight, bias in zip(others[::2], others[1::2], strict=True):
            found.append(torch.baddbmm(bias[:, None], found[-1].relu(), weight.transpose(1, 2)))
        return found

    @torch.no_grad()
    def train(self, x: Tensor, y: Tensor, batches: tuple[Tensor, ...]) -> None:
        """One epoch, which minimizes the cross-entropy."""
        minus = x.new_tensor([[[-1.0]]])
        for index in batches:
            inputs, truth = x[index], y[index][None, :, None]
            outputs = self(inputs)
            error = outputs.pop().softmax(dim=2)  # then the gradient of the loss of each network by its logits
            error.scatter_add_(2, truth.expand(len(error), -1, -1), minus.expand(len(error), len(index), 1))
            error /= len(index)
            for i in range(len(self.weights) - 2, 0, -2):
                h = outputs.pop().relu()
                torch.sum(error, dim=1, out=self.gradients[i + 1])
                torch.bmm(error.transpose(1, 2), h, out=self.gradients[i])
                error = torch.bmm(error, self.weights[i]) * (h > 0)
            torch.sum(error, dim=1, out=self.gradients[1])
            torch.mm(error.transpose(0, 1).flatten(1).T, inputs, out=self.gradients[0].flatten(0, 1))
            self.optimizer.step()

    @torch.no_grad()
    def accuracies(self, x: Tensor, classes: Tensor, truth: Tensor) -> list[float]:
        """The accuracy of each network, for images of these labels."""
        right = torch.zeros(len(self.weights[0]), dtype=torch.int64, device=x.device)
        for part, label in zip(x.split(_CHUNK), truth.split(_CHUNK), strict=True):
            right += (classes[self(part)[-1].argmax(dim=2)] == label).sum(dim=1)
        return [count / len(x) for count in right.tolist()]

    def finite(self, i: int) -> bool:
        """Whether all weights of the network with the i-th rate are finite."""
        return all(bool(weight[i].isfinite().all()) for weight in self.weights)
