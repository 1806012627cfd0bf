"""GEDI, and the methods that it becomes without some of its terms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from sslx.api import ConfigError, Constraint, Context, Term, Terms, Views, gather, option, slot
from sslx.ssl_methods.joint_embedding import Projected, head
from sslx.ssl_methods.objectives import over_pairs

# Distances from the minima that count as failure: benchmarks/gedi.py prints what they tell apart. Successes are above
# 0, as noisy views of a point disagree now and then.
_INVARIANCE, _PRIOR = 0.015, 0.01
_BALANCE = 0.1  # digits of sums, which are not equally frequent, are 0.007 from balance
_UNIFORM = 0.1  # of ln c, which is L_INV at uniform p(y|x)


class GEDI(
    Projected, encoder={"use": "mlp", "slope": 0.2}, projector=(64,), norm="none", slope=0.2, energy="sgld"
):  # fmt: skip
    """Clusters and a density from the same c logits t(x): p(y|x) = softmax t(x) and log p(x) = f(x) + constant.

        f(x) = logsumexp t(x)                        (GEDI, Eq. 6)
        L_GEN = E f(x⁻) - E f(x)                     (Eq. 7), the energy; x⁻ are its samples
        L_INV = -Σ_y p(y|x') log p(y|x) >= 0         over pairs of different views, both with gradient
        L_PRIOR = -1/c Σ_y log E p(y|x) >= ln c      E over the views of a batch

    Where a constraint says what the classes of n images that belong together obey, the last two become (App. N)

        L_NESY = -log p(rule | x₁…xₙ) >= 0           as Eq. 9 is implemented: one of c classes for each image
        L_PRIOR = 1 - H(E p(y|x)) / ln c >= 0

    The weights are those of the paper on CIFAR-10; on points it has 10 for the prior, as the points recommend. It names
    neither c nor a temperature; here t(x) is a layer on the projection head without one. Its activations are ReLUs,
    which may all be dead in a small head: here they leak.
    """

    clusters: int = option(default=10, gt=1, help="c")
    invariance_weight: float = option(default=50.0, ge=0, help="of L_INV")
    prior_weight: float = option(default=25.0, ge=0, help="of L_PRIOR")
    constraint: Constraint | None = slot(default=None, help="a rule for images that belong together, instead of L_INV")
    constraint_weight: float = option(default=25.0, ge=0, help="of L_NESY")
    balance_weight: float = option(default=400.0, ge=0, help="of L_PRIOR where there is a constraint")

    def __attrs_post_init__(self) -> None:
        if self.constraint is not None and set(self.constraint.domains) != {self.clusters}:
            classes = " and ".join(map(str, sorted(set(self.constraint.domains))))
            raise ConfigError(f"clusters: expected the constraint's number of classes, {classes}; got {self.clusters}")

    def build_head(self, ctx: Context) -> Context:
        if self.constraint is not None:
            if (n := len(self.constraint.domains)) != ctx.arity:
                rule = type(self.constraint).__name__
                raise ConfigError(f"constraint: {rule} is about {n} images that belong together, here {ctx.arity} do")
            self.constraint.build(ctx)
        self.head = head((*self.projector, self.clusters), ctx.latent, self.norm, self.slope)
        return ctx.but(latent=self.clusters)

    def relate(self, views: Views) -> Terms:
        log_p = gather(self.embeddings(views)).log_softmax(dim=2)  # (N, V, c)
        log_mean = log_p.flatten(0, 1).logsumexp(dim=0) - math.log(log_p[..., 0].numel())  # log E p(y|x), (c,)
        if self.constraint is not None:
            # Each view of n images is a set of its own: n times (N/n·V, c).
            sets = log_p.unflatten(0, (-1, len(self.constraint.domains))).transpose(1, 2).flatten(0, 1).unbind(dim=1)
            balance = 1 + (log_mean.exp() * log_mean).sum() / math.log(self.clusters)
            return Terms(
                constraint=Term(-self.constraint(sets).mean(), self.constraint_weight, minimum=0.0),
                balance=Term(balance, self.balance_weight, minimum=0.0),
            )
        cross = (log_p[:, None, : views.count].exp() * log_p[:, :, None]).sum(dim=3)  # (N, V, J)
        return Terms(
            invariance=Term(-over_pairs(cross), self.invariance_weight, minimum=0.0),
            prior=Term(-log_mean.mean(), self.prior_weight, minimum=math.log(self.clusters)),
        )

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> f(x), (B,)."""
        return self.embed(x).logsumexp(dim=1)

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(y|x), (B, c)."""
        return self.embed(x).log_softmax(dim=1)

    def diagnosis(self, excess: Mapping[str, float]) -> str:
        """Which of the triad of failure modes a training ended in (Definitions 12 to 14), by Proposition 11."""
        if self.constraint is not None:
            lost = "cluster collapse; " if excess["balance"] >= _BALANCE else ""
            return f"{lost}the rule holds with probability {math.exp(-excess['constraint']):.3f}"
        if excess["prior"] >= _PRIOR:
            return "cluster collapse: the clusters are not equally large"
        if abs(excess["invariance"] / math.log(self.clusters) - 1) < _UNIFORM:
            return "representational collapse: all images have the same p(y|x), which is uniform"
        if excess["invariance"] >= _INVARIANCE:
            return "label inconsistency: views of an image are in different clusters"
        return "none of the three failure modes"


class NoGen(GEDI, energy=None):
    """GEDI without L_GEN: clustering alone."""


class AsPrinted(GEDI):
    """What the paper compares GEDI with has no penalty on f, which GEDI has on points here.

    With it logits share the curves by themselves, and little is left for the missing term to do.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"method": {"energy": {"magnitude": 0.0}}}


class NoInv(AsPrinted, invariance_weight=0.0):
    """GEDI without L_INV, which is still recorded, nor a penalty on f."""


class NoPrior(AsPrinted, prior_weight=0.0):
    """GEDI without L_PRIOR, which is still recorded, nor a penalty on f."""


class JEM(AsPrinted, invariance_weight=0.0, prior_weight=0.0):
    """L_GEN alone: the energy model of Grathwohl et al. 2020 without labels."""


class TwoStage(GEDI):
    """L_GEN alone for the first steps, then L_INV and L_PRIOR alone.

    Our reading: the paper names a comparison of two stages and refers to another one, which we have not read.
    """

    generative_steps: int = option(default=1000, ge=0, help="of the first stage")

    steps: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("steps", torch.tensor(0))
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        first = bool(self.steps < self.generative_steps)
        terms = super().forward(views)
        counts = {name: (name in ("generative", "magnitude")) == first for name in terms}
        return Terms({name: term._replace(weight=term.weight * counts[name]) for name, term in terms.items()})

    def after_step(self, step: int) -> None:
        super().after_step(step)
        self.steps += 1


class NeSy(
    GEDI, encoder={"use": "cnn", "dim": 64}, projector=(), energy=None, constraint="addition", balance_weight=0.0
):  # fmt: skip
    """A constraint alone: L_NESY, best satisfied by a trivial answer if the rule has one, as 0 + 0 = 0.

    With `balance_weight=400` it is GEDI with a constraint and without L_GEN.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 1}}
