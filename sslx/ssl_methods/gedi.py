import math
from collections.abc import Mapping

from torch import Tensor

from sslx.api import ConfigError, Constraint, Context, Projected, Term, Terms, Views, gather, head, option, slot
from sslx.ssl_methods.parts.objectives import over_pairs

# Distances from the minima that count as failure: benchmarks/gedi.py prints the runs that they separate. Successes are
# above 0, as noisy views of a point sometimes disagree.
_INVARIANCE, _PRIOR = 0.015, 0.01
_BALANCE = 0.1  # the digits of sums are not equally frequent: they are 0.007 from balance
_UNIFORM = 0.1  # relative to ln c, which is L_INV at uniform p(y|x)


class GEDI(Projected, encoder={"use": "mlp", "slope": 0.2}, projector=(64,), norm="none", slope=0.2, energy="sgld"):
    """Learns clusters and a density of images from the same c logits t(x).

        p(y|x) = softmax t(x), log p(x) = f(x) + constant, f(x) = logsumexp t(x)         (GEDI, Eq. 6)
        L_GEN = E f(x⁻) - E f(x)                     (Eq. 7), the energy; x⁻ are its samples
        L_INV = -Σ_y p(y|x') log p(y|x) >= 0         over pairs of different views, both with gradient
        L_PRIOR = -1/c Σ_y log E p(y|x) >= ln c      E over the views of a batch

    With a constraint on the classes of n images that belong together, the last two are replaced by (App. N)

        L_NESY = -log p(rule | x₁…xₙ) >= 0           as Eq. 9 is implemented: one of c classes for each image
        L_PRIOR = 1 - H(E p(y|x)) / ln c >= 0

    L_INV is then only recorded, as `invariance`, if there are several views; Figure 11 draws it beside L_NESY.

    The weights are the paper's CIFAR-10 values; datasets of 2-D points recommend its 10 for the prior. The paper states
    neither the number of clusters nor the temperature τ of Eq. 6: here t(x) = Uᵀg(x)/τ is a layer on the projection
    head, and τ = 1. We use leaky ReLUs, because all units of a small ReLU head can die. The paper's networks are
    `encoder=resnet8` with `projector=256,128` and `encoder.dim=0` for images, also for sums of digits, and for points
    `encoder.hidden=100,100` with `encoder.dim=2`, `projector=4`, `slope=0` and `encoder.slope=0`.
    """

    defaults = {"evaluators": ["cluster"]}

    clusters: int = option(default=10, gt=1, help="Number of clusters (c).")
    temperature: float = option(default=1.0, gt=0, help="Temperature of the logits t(x) (τ).")
    invariance_weight: float = option(default=50.0, ge=0, help="Weight of the invariance loss L_INV.")
    prior_weight: float = option(default=25.0, ge=0, help="Weight of the cluster prior L_PRIOR.")
    constraint: Constraint | None = slot(default=None, help="Rule for images that belong together, instead of L_INV.")
    constraint_weight: float = option(default=25.0, ge=0, help="Weight of the constraint L_NESY.")
    balance_weight: float = option(default=400.0, ge=0, help="Weight of L_PRIOR with a constraint.")

    def __attrs_post_init__(self) -> None:
        if self.constraint is not None and set(self.constraint.domains) != {self.clusters}:
            classes = " and ".join(map(str, sorted(set(self.constraint.domains))))
            raise ConfigError(f"clusters: expected the constraint's number of classes, {classes}; got {self.clusters}")

    def build_head(self, ctx: Context) -> Context:
        if self.constraint is not None:
            if (n := len(self.constraint.domains)) != ctx.arity:
                rule = type(self.constraint).__name__
                raise ConfigError(
                    f"constraint: {rule} relates {n} images that belong together, but in this dataset "
                    f"{ctx.arity} belong together; choose a dataset with arity={n}, such as mnist-addition for 3"
                )
            self.constraint.build(ctx)
        self.head = head((*self.projector, self.clusters), ctx.latent, self.norm, self.slope)
        return ctx.but(latent=self.clusters)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the logits t(x), (B, c)."""
        return super().embed(x) / self.temperature

    def relate(self, views: Views) -> Terms:
        log_p = gather(self.embeddings(views)).log_softmax(dim=2)  # (N, V, c)
        log_mean = log_p.flatten(0, 1).logsumexp(dim=0) - math.log(log_p[..., 0].numel())  # log E p(y|x), (c,)
        if self.constraint is not None:
            # Each view of n images is a set of its own: n times (N/n·V, c).
            sets = log_p.unflatten(0, (-1, len(self.constraint.domains))).transpose(1, 2).flatten(0, 1).unbind(dim=1)
            balance = 1 + (log_mean.exp() * log_mean).sum() / math.log(self.clusters)
            terms = Terms(
                constraint=Term(-self.constraint(sets).mean(), self.constraint_weight, minimum=0.0),
                balance=Term(balance, self.balance_weight, minimum=0.0),
            )
            if log_p.shape[1] > 1:
                terms["invariance"] = Term(_invariance(log_p.detach(), views.count), 0.0, minimum=0.0)
            return terms
        return Terms(
            invariance=Term(_invariance(log_p, views.count), self.invariance_weight, minimum=0.0),
            prior=Term(-log_mean.mean(), self.prior_weight, minimum=math.log(self.clusters)),
        )

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> f(x), (B,)."""
        return self.embed(x).logsumexp(dim=1)

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(y|x), (B, c)."""
        return self.embed(x).log_softmax(dim=1)

    def diagnosis(self, excess: Mapping[str, float]) -> str:
        """Which of the three failure modes the training ended in, if any (Definitions 12 to 14, by Proposition 11)."""
        if self.constraint is not None:
            holds = f"the rule holds with probability {math.exp(-excess['constraint']):.3f}"
            if excess["balance"] < _BALANCE:
                return holds
            weight = "--set balance_weight=400" if not self.balance_weight else "a larger balance_weight"
            return (
                f"cluster collapse: {holds}, but most images are in the same few classes whatever they show; "
                f"{weight} makes the classes about equally frequent"
            )
        if excess["prior"] >= _PRIOR:
            return "cluster collapse: the clusters are not equally large"
        if abs(excess["invariance"] / math.log(self.clusters) - 1) < _UNIFORM:
            return "representational collapse: all images have the same p(y|x), which is uniform"
        if excess["invariance"] >= _INVARIANCE:
            return "label inconsistency: views of an image are in different clusters"
        return "none of the three failure modes"


def _invariance(log_p: Tensor, count: int) -> Tensor:
    """L_INV of log p(y|x), (N, V, c), the first `count` of which are of whole views."""
    cross = (log_p[:, None, :count].exp() * log_p[:, :, None]).sum(dim=3)  # (N, V, J)
    return -over_pairs(cross)
