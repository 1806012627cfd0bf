"""SwAV."""

from __future__ import annotations

import torch
from torch import Tensor

from sslx.api import Assignment, Context, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs
from sslx.ssl_methods.parts.sinkhorn import sinkhorn


class SwAVLoss(Assignment):
    """-Σ_c q_c(x') log p_c(x) over pairs of different views (Caron et al. 2020, Eq. 2), p = softmax(s/τ).

    The codes q are the Sinkhorn-Knopp assignment of the batch's scores s/ε to equally large clusters (Eq. 3 to 5),
    without gradient. A queue of scores of earlier batches joins it once it is full, so that a batch may be smaller than
    K; the authors keep embeddings there, whose scores change while the prototypes do.
    """

    epsilon: float = option(default=0.05, gt=0, help="ε, smoothness of the codes")
    iterations: int = option(default=3, gt=0, help="of Sinkhorn-Knopp")
    queue_length: int = option(default=0, ge=0, help="earlier images per view that codes are balanced with; 3840")

    queue: Tensor
    queued: Tensor

    def build(self, ctx: Context) -> Context:
        self.register_buffer("queue", torch.zeros(ctx.views, self.queue_length, ctx.latent))
        self.register_buffer("queued", torch.tensor(0))
        return ctx

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        self.scores = target.detach().transpose(0, 1)  # (J, N, K)
        full = self.queued >= self.queue_length
        scores = torch.cat([self.scores, self.queue], dim=1) if full else self.scores
        q = sinkhorn(scores / self.epsilon, self.iterations).exp()[:, : len(target)]
        cross = torch.einsum("nvc,jnc->nvj", self.log_prob(online), q)
        return Terms(swapped=-over_pairs(cross))

    def after_step(self, step: int) -> None:
        self.queue.copy_(torch.cat([self.scores, self.queue], dim=1)[:, : self.queue_length])
        self.queued += self.scores.shape[1]


class SwAV(Prototypical, objective="swav"):
    """A view predicts the balanced cluster assignment of another view (Caron et al. 2020).

    Local crops join by `--set views.local.use=standard`. The authors keep prototypes fixed in the first epoch.
    """
