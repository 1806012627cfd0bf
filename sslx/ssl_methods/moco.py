"""MoCo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class QueueNCE(Objective):
    """-log exp(q·k₊/τ) / [exp(q·k₊/τ) + Σ_{k in queue} exp(q·k/τ)], all of unit length (He et al. 2020, Eq. 1).

    k₊ is another view of the query's image, the mean is over all pairs of different views. The queue holds the newest
    keys first, those of all processes in order of rank.
    """

    temperature: float = option(default=0.2, gt=0, help="τ; MoCo 0.07, MoCo v2 0.2; SimVAE's comparison 0.7 and 0.2")
    queue_length: int = option(default=4096, gt=0, help="keys in the queue; 65536 in MoCo on ImageNet")

    queue: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("queue", normalize(torch.randn(self.queue_length, ctx.latent), dim=1))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        q, k = normalize(online, dim=2), normalize(target, dim=2)
        self.keys = k.detach().flatten(0, 1)  # (N·J, D)
        positive = q @ k.mT / self.temperature  # (N, V, J)
        negative = (q @ self.queue.T / self.temperature).logsumexp(dim=2, keepdim=True)  # (N, V, 1)
        return Terms(contrast=over_pairs(torch.logaddexp(positive, negative) - positive))

    def log_density(self, z: Tensor) -> Tensor:
        """(B, D) -> f(x) = log Σ_{k in queue} exp(z·k/τ), (B,)."""
        return (normalize(z, dim=1) @ self.queue.T / self.temperature).logsumexp(dim=1)

    def after_step(self, step: int) -> None:
        self.queue.copy_(torch.cat([self.keys, self.queue])[: self.queue_length])


class MoCo(
    JointEmbedding, projector=(128,), target="teacher", momentum=(0.99, 0.99),
    objective={"use": "queue-nce", "temperature": 0.07},
):  # fmt: skip
    """Contrast with a queue of keys from a moving average of the network (He et al. 2020).

    The paper has m = 0.999 throughout, for millions of steps. Both views are queries and keys, as in MoCo v3; keys are
    not shuffled between processes, which matters for encoders with batch normalisation alone.
    """
