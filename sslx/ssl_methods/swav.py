import torch
from torch import Tensor, nn

from sslx.api import Assignment, Context, Prototypical, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs, sinkhorn


class SwAVLoss(Assignment):
    """Cross-entropy with the balanced clusters of another view (Caron et al. 2020, Eq. 2).

        -Σ_c q_c(x') log p_c(x), p = softmax(s/τ)

    The mean over pairs of different views; q assigns the scores s/ε of the batch to equally large clusters by
    Sinkhorn-Knopp, without gradient (Eq. 3 to 5). Once a queue of earlier scores is full it joins the batch, which may
    then be smaller than K. The authors' queue holds embeddings instead, whose scores change with the prototypes.
    """

    least_images = 2
    gated = True

    epsilon: float = option(default=0.05, gt=0, help="Smoothness of the codes (ε).")
    iterations: int = option(default=3, gt=0, help="Number of Sinkhorn-Knopp iterations.")
    queue_length: int = option(default=0, ge=0, help="Number of earlier images in the queue; the authors have 3840.")

    def build(self, ctx: Context) -> Context:
        self.queue = nn.Buffer(torch.zeros(ctx.views, self.queue_length, ctx.latent))
        self.queued = nn.Buffer(torch.tensor(0))
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
        self.queued.add_(self.scores.shape[1])


class SwAV(Prototypical, objective="swav"):
    """Predicts the cluster of another view; clusters are balanced over the batch (Caron et al. 2020).

    `--set views.local.use=standard` adds local crops. The authors keep prototypes fixed in the first epoch. GEDI
    compares with it with batch normalization in all layers, `encoder.norm=batch`, and embeddings of length 1, which
    they always have here.
    """
