"""How much each dimension of a Gaussian posterior depends on the image."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from sslx.api import DataError, Encoder, Evaluation, Evaluator, Result, option


class PosteriorCollapse(Evaluator):
    """The divergence of each dimension of q(z|x) = N(μ(x), diag σ²(x)), for methods with such an encoder.

    A dimension has collapsed if its posterior is the same for all images, KL(q(z_d|x) ‖ q_d) < ε for a part 1 - δ of
    the test images (Lucas et al. 2019, ε = δ = 0.01). They compare with the prior. Here q_d is the normal distribution
    with the mean and variance of z_d over all images: it is the prior where q has collapsed onto that, and it also fits
    methods with another prior than N(0, I).

    Scores:
        posterior-collapsed: the number of dimensions that have collapsed.
        posterior-kl: Σ_d KL(q(z_d|x) ‖ N(0, 1)) in nats, the mean over the test images.

    The protocol has both divergences of each dimension, and `posterior.png` in the folder of the run shows them.
    """

    best = 0.0
    ignored = frozenset({"of"})

    epsilon: float = option(default=0.01, gt=0, help="Divergence in nats below which a posterior does not differ (ε).")
    delta: float = option(default=0.01, ge=0, lt=1, help="Part of the images whose posterior may differ (δ).")

    def skip(self, evaluation: Evaluation) -> str:
        encoder, test = getattr(evaluation.method, "encoder", None), evaluation.data[1]
        if not isinstance(encoder, Encoder):
            return "the method has no encoder"
        if not len(test):
            return "the test set is empty"
        with torch.no_grad():
            q = encoder(next(test.batches(evaluation.device, 1)))
        return "" if _normal(q) else "the encoder gives no normal distribution"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        encoder = evaluation.method.get_submodule("encoder")
        found = [encoder(x).base_dist for x in evaluation.data[1].batches(evaluation.device)]
        mean = torch.cat([q.loc.double().cpu() for q in found])  # (n, D)
        variance = torch.cat([q.scale.double().cpu() for q in found]).square()
        if not (mean.isfinite() & variance.isfinite() & (variance > 0)).all():
            raise DataError("a posterior is not finite. The method has probably diverged: look at its metrics")
        prior = divergence(mean, variance, torch.zeros(()), torch.ones(()))
        aggregate = divergence(mean, variance, mean.mean(dim=0), variance.mean(dim=0) + mean.var(dim=0, correction=0))
        collapsed = (aggregate < self.epsilon).double().mean(dim=0) >= 1 - self.delta
        n, D = mean.shape
        return Result(
            scores={
                "posterior-collapsed": float(collapsed.sum()),
                "posterior-kl": prior.sum(dim=1).mean().item(),
            },
            protocol={
                "tested_on": n,
                "dimensions": D,
                "kl": prior.mean(dim=0).tolist(),
                "kl_from_aggregate": aggregate.mean(dim=0).tolist(),
                "collapsed": collapsed.nonzero().flatten().tolist(),
            },
            summary=f"dimensions, of {D}, in which the posterior of {1 - self.delta:.0%} of {n} test images is within "
            f"{self.epsilon:g} nats of the mean one; kl is the sum of the divergences from N(0, 1)",
        )


def divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(other mean, other variance)) in nats, elementwise."""
    ratio = variance / other_variance
    return (ratio - 1 - ratio.log() + (mean - other_mean).square() / other_variance) / 2


def _normal(q: Distribution) -> bool:
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)
