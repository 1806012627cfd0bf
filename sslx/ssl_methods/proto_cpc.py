from torch import Tensor

from sslx.api import Assignment, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class ProtoCPCLoss(Assignment):
    """A bound of InfoNCE whose negatives are prototypes (Lee 2022; derived in GEDI's Appendix G).

        -Σ_c p'_c(x') s_c(x)/τ + log Σ_c q_c exp(s_c(x)/τ), p' = softmax(s'/τ'), q = mean p'

    The mean over pairs of different views; p' is the teacher's, and q is over the images and views of all processes.
    """

    least_images = 2

    teacher_temperature: float = option(default=0.04, gt=0, help="Temperature of the teacher (τ').")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        p = (target.detach() / self.teacher_temperature).softmax(dim=2)  # (N, J, K)
        s = online / self.temperature
        attracted = s @ p.mT  # (N, V, J)
        repelled = (s + p.mean(dim=(0, 1)).log()).logsumexp(dim=2, keepdim=True)  # (N, V, 1)
        return Terms(contrast=over_pairs(repelled - attracted))


class ProtoCPC(Prototypical, target="teacher", momentum=(0.99, 1.0), objective="proto-cpc"):
    """Contrasts a teacher's prototypes for another view with the frequency of all prototypes (Lee 2022)."""
