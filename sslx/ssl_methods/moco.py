import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Terms, option
from sslx.ssl_methods.parts.objectives import over_pairs


class QueueNCE(Objective):
    """Contrast of a query q with a key k₊ of the same image and a queue of others (He et al. 2020, Eq. 1).

        -log exp(q·k₊/τ) / [exp(q·k₊/τ) + Σ_{k in queue} exp(q·k/τ)]

    All are of unit length, and the loss is the mean over all pairs of different views. The queue holds the newest keys
    first, those of all processes in order of rank.
    """

    gated = True
    needs = "a queue, which `build` makes and `after_step` fills, and embeddings (N, J, D) of both branches"

    temperature: float = option(default=0.2, gt=0, help="Temperature (τ); MoCo 0.07, MoCo v2 0.2; SimVAE 0.7 and 0.2.")
    queue_length: int = option(default=4096, gt=0, help="Number of keys in the queue; 65536 in MoCo on ImageNet.")

    def build(self, ctx: Context) -> Context:
        self.queue = nn.Buffer(normalize(torch.randn(self.queue_length, ctx.latent), dim=1))
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
    """Contrasts each view with a queue of embeddings from a moving average of the network (He et al. 2020).

    The paper has m = 0.999 throughout, for millions of steps. Both views are queries and keys, as in MoCo v3. Keys are
    not shuffled between processes, which matters only for encoders with batch normalization.
    """
