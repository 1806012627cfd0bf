"""Distance between images that a method draws and real ones."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from sslx.api import (
    ConfigError,
    Context,
    DataError,
    Decodes,
    Energy,
    Evaluation,
    Evaluator,
    HasDensity,
    Method,
    Result,
    Samples,
    Split,
    can,
    option,
    resized,
    slot,
)
from sslx.evaluators.common import finite, some

_PART = 1000  # images that are drawn at a time
_COLUMNS, _ROWS = 8, 20  # of pictures


class Draws(Evaluator):
    """An evaluator that compares images that the method draws with real ones."""

    ignored = frozenset({"of"})

    images: int = option(default=1000, gt=1, help="Maximum number of images that are drawn.")
    against: Literal["test", "training"] = option(default="test", help="Real images for the comparison.")
    conditional: bool = option(
        default=False,
        help="Whether images are decoded from a Gaussian fitted to the training latents of each class, instead of "
        "drawn by the method.",
    )
    sampler: Energy | None = slot(
        default=None,
        help="Energy, such as sgld, that draws images by the method's density or logits, instead of the method itself.",
    )

    def __attrs_post_init__(self) -> None:
        if self.conditional and self.sampler is not None:
            raise ConfigError("sampler: conditional=true decodes images, expected none")

    def skip(self, evaluation: Evaluation) -> str:
        method = evaluation.method
        if self.conditional:
            if not can(method, Decodes):
                return "the method cannot decode latents"
            return "the training set has no labels" if evaluation.train.labels is None else ""
        if self.sampler is not None:
            return "the method has neither a density nor an embedding" if with_density(method) is None else ""
        return "" if can(method, Samples) else "the method draws no images"

    def halves(self, evaluation: Evaluation) -> tuple[Split, Split]:
        """The images to compare with, and the other half of the dataset."""
        train, test = evaluation.data
        return (test, train) if self.against == "test" else (train, test)

    def other(self) -> str:
        """The name of the other half."""
        return "training" if self.against == "test" else "test"

    def how(self, evaluation: Evaluation) -> str:
        """By what images are drawn, in words."""
        if self.conditional:
            return "the decoder from a Gaussian of the training latents of each class"
        if self.sampler is None:
            return "the method"
        logits = "" if can(evaluation.method, HasDensity) else " by the embedding, taken as logits"
        return f"{type(self.sampler).__name__}{logits}"

    @torch.no_grad()
    def drawn(self, evaluation: Evaluation, n: int) -> Iterator[Tensor]:
        """n drawn images in parts, each (k, C, H, W) on the CPU, of the size of the dataset's images.

        Raises DataError if one is not finite.
        """
        if self.conditional:
            labels = _labels(evaluation)
            parts = self._decoded(evaluation, labels[torch.randint(len(labels), (n,))])
        else:
            parts = map(self._sampler(evaluation), [min(_PART, n - start) for start in range(0, n, _PART)])
        for part in parts:
            evaluation.heed()
            images = resized(part.float().cpu(), evaluation.data[0].images.shape[-2:])
            if not images.isfinite().all():
                raise DataError("a drawn image is not finite: the sampler has diverged")
            yield images

    @torch.no_grad()
    def pictures(self, evaluation: Evaluation) -> Mapping[str, Tensor]:
        """Drawn images, unless the method itself draws them: eight of each class, or some of the sampler's."""
        if evaluation.data[0].images.dtype.is_floating_point:
            return {}
        if self.conditional:
            classes = _labels(evaluation).unique()[:_ROWS].repeat_interleave(_COLUMNS)
            return {"by-class": torch.cat(list(self._decoded(evaluation, classes))).cpu()}
        return {} if self.sampler is None else {"drawn": next(self.drawn(evaluation, _COLUMNS**2))}

    def _decoded(self, evaluation: Evaluation, labels: Tensor) -> Iterator[Tensor]:
        """An image of each of these classes, in parts."""
        method = evaluation.method
        assert can(method, Decodes), "skip() asks for it"
        z = like_classes(_latents(evaluation), _labels(evaluation), labels)
        return (method.decode(part.to(evaluation.device)) for part in z.split(_PART))

    def _sampler(self, evaluation: Evaluation) -> Callable[[int], Tensor]:
        """A function that draws so many images."""
        if self.sampler is None:
            assert can(evaluation.method, Samples), "skip() asks for it"
            return evaluation.method.sample
        dense, train = with_density(evaluation.method), evaluation.data[0]
        assert dense is not None, "skip() asks for it"
        C, H, W = train.images.shape[1:]
        context = Context(evaluation.views.shape((C, H, W)), len(train))

        def draw(n: int) -> Tensor:
            energy = copy.deepcopy(self.sampler)  # the config's own is never built, and these chains are new
            assert energy is not None
            energy.build(context)
            return energy.to(evaluation.device).sample(dense, n)

        return draw


class SampleDistance(Draws):
    """Energy distance between images that the method draws and real images, as vectors of pixels.

        2 E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, over pairs of different images (Székely & Rizzo 2013)

    Scores:
        samples: the distance, which is zero only for equal distributions, up to chance.
        samples-of-training: the distance of as many training images, which is that of perfect samples.
    """

    def evaluate(self, evaluation: Evaluation) -> Result:
        real, other = self.halves(evaluation)
        n = min(self.images, len(real), len(other))
        x, y = (some(half, n, evaluation.seed) for half in (other, real))
        drawn, how = torch.cat(list(self.drawn(evaluation, n))), self.how(evaluation)
        return Result(
            scores={"samples": energy_distance(drawn, y), f"samples-of-{self.other()}": energy_distance(x, y)},
            protocol={"images": n, "against": self.against, "drawn_by": how},
            summary=f"energy distance between {n} images drawn by {how} and {n} {self.against} images, as vectors of "
            "pixels",
            pictures=self.pictures(evaluation),
        )


class _Logits(Method):
    """A method whose density takes its embedding as logits: log p(x) = logsumexp g(f(x)) + constant."""

    def log_density(self, x: Tensor) -> Tensor:
        return self.method.representations()["embedding"](x).float().logsumexp(dim=1)


def with_density(method: Method) -> Method | None:
    """The method itself if it has a density, or with its embedding taken as logits; None if it has neither."""
    if can(method, HasDensity):
        return method
    if "embedding" not in method.representations():
        return None
    dense = _Logits()
    dense.method = method
    return dense


def _labels(evaluation: Evaluation) -> Tensor:
    labels = evaluation.train.labels
    assert labels is not None, "skip() asks for them"
    return labels


def _latents(evaluation: Evaluation) -> Tensor:
    """The latents of the training images, which the method decodes, (n, D)."""
    if evaluation.representation == "latent":
        return finite(evaluation)[0]
    encode = evaluation.method.representations()["latent"]
    return torch.cat([encode(x).float().cpu() for x in evaluation.data[0].batches(evaluation.device)])


def like_classes(z: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """A latent for each of the wanted labels, (n, D), from a Gaussian fitted to the latents z of this class.

    The Gaussian is scikit-learn's mixture with one component, as in SimVAE (A.7.6): the mean and the full covariance,
    with 1e-6 added to the variances.
    """
    found = torch.empty(len(wanted), z.shape[1])
    for c in wanted.unique():
        own, places = z[labels == c].double(), wanted == c
        covariance = own.T.cov(correction=0).reshape(z.shape[1], -1)  # a scalar if D = 1
        variances, directions = torch.linalg.eigh(covariance + 1e-6 * torch.eye(z.shape[1]))
        noise = torch.randn(int(places.sum()), z.shape[1], dtype=torch.float64)
        found[places] = (own.mean(dim=0) + noise * variances.clamp(min=0).sqrt() @ directions.T).float()
    return found


def energy_distance(x: Tensor, y: Tensor) -> float:
    """(n, C, H, W) and (m, C, H, W) -> the unbiased estimate: no image is paired with itself."""
    x, y = x.flatten(1).double(), y.flatten(1).double()
    return (2 * torch.cdist(x, y).mean() - torch.pdist(x).mean() - torch.pdist(y).mean()).item()
