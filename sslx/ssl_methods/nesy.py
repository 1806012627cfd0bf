"""Learning from a rule: the classes of images that come together obey it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from sslx.api import ConfigError, Constraint, Context, Encoder, Method, Term, Terms, Views, gather, option, slot


class NeSy(Method):
    """-w E[log p(rule | x₁…xₙ)] + w' (1 - H(p̄)/log K), p(y|x) = softmax U g(x), p̄ its mean over the batch.

    The probability that the rule holds of a set of n images, exact (GEDI, Eq. 9 as it is implemented). Alone (w' = 0)
    it is best satisfied by a trivial answer if the rule has one: all digits zero, for an addition. The prior, with
    w' = 400 in GEDI's Addition, forbids that.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"train": {"batch_size": 60}, "views": {"count": 1}}

    encoder: Encoder = slot(default="cnn", posterior="delta", dim=64, help="g(x)")
    constraint: Constraint = slot(default="addition", help="the rule")
    weight: float = option(default=25.0, ge=0, help="w, of the rule (GEDI, Table 9)")
    prior_weight: float = option(default=0.0, ge=0, help="w', of the balance of classes; 400 in GEDI, Table 9")

    def __attrs_post_init__(self) -> None:
        if len(set(self.constraint.domains)) != 1 or self.constraint.domains[0] < 2:
            raise ConfigError(
                f"constraint: expected one number of classes for all images, got {self.constraint.domains}"
            )

    def build(self, ctx: Context) -> Context:
        domains = self.constraint.domains
        if len(domains) != ctx.arity:
            raise ConfigError(
                f"method.constraint: is about {len(domains)} images, the dataset brings {ctx.arity} together"
            )
        ctx = self.constraint.build(self.encoder.build(ctx))
        self.classifier = nn.Linear(ctx.latent, domains[0])  # U
        return ctx

    def forward(self, views: Views) -> Terms:
        log_p = self.cluster(views.flat)  # (B, K)
        # Every view of a set of n images is a set of its own: n times (N/n·J, K).
        sets = views.group(log_p).unflatten(0, (-1, len(self.constraint.domains))).transpose(0, 1).flatten(1, 2)
        return Terms(
            nesy=Term(-self.constraint(sets.unbind()).mean(), weight=self.weight, minimum=0.0),
            prior=Term(imbalance(gather(log_p)), weight=self.prior_weight, minimum=0.0),
        )

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> log p(y|x), (B, K)."""
        return self.classifier(self.encoder(x).mean).float().log_softmax(dim=1)

    def represent(self, x: Tensor) -> Tensor:
        return self.encoder(x).mean


def imbalance(log_p: Tensor) -> Tensor:
    """1 - H(p̄)/log K in [0, 1], p̄ the mean of the B distributions exp log_p, (B, K) (GEDI, App. N)."""
    B, K = log_p.shape
    log_mean = log_p.logsumexp(dim=0) - math.log(B)  # in log space: a class that nobody has must not make a NaN
    return 1 + (log_mean.exp() * log_mean).sum() / math.log(K)
