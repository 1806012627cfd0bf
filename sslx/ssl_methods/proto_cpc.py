"""ProtoCPC."""

from __future__ import annotations

from torch import Tensor

from sslx.api import Assignment, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class ProtoCPCLoss(Assignment):
    """-Σ_c p'_c(x') s_c(x)/τ + log Σ_c q_c exp(s_c(x)/τ), p' = softmax(s'/τ'), q = mean p' (Lee 2022).

    A bound of InfoNCE whose negatives are prototypes; GEDI derives it in Appendix G. p' is the teacher's, q the mean
    over all processes' images and views; the sum is the mean over pairs of different views.
    """

    teacher_temperature: float = option(default=0.04, gt=0, help="τ'")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        p = (target.detach() / self.teacher_temperature).softmax(dim=2)  # (N, J, K)
        s = online / self.temperature
        attracted = s @ p.mT  # (N, V, J)
        repelled = (s + p.mean(dim=(0, 1)).log()).logsumexp(dim=2, keepdim=True)  # (N, V, 1)
        return Terms(contrast=over_pairs(repelled - attracted))


class ProtoCPC(
    Prototypical, target="teacher", momentum=(0.99, 1.0), objective="proto-cpc"
):  # fmt: skip
    """A view predicts the teacher's prototypes of another view, against how frequent each prototype is (Lee 2022)."""
