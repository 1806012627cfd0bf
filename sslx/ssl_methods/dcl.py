import torch
from torch import Tensor

from sslx.api import JointEmbedding, Terms
from sslx.ssl_methods.parts.objectives import InfoNCE, over_pairs


class DecoupledNCE(InfoNCE, temperature=0.1):
    """Contrast whose positives do not compete with its negatives (Yeh et al. 2022), s the cosine similarities.

        -sᵢₚ/τ + log Σₐ exp(sᵢₐ/τ), the mean over all related i and p

    a are the views of all other images: `info-nce` has the views of the image itself as well, which makes the gradients
    of easy positives small and the loss depend on the size of the batch. The density is that of `info-nce`.
    """

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        (N, V, _), J = online.shape, target.shape[1]
        z, t = online.flatten(0, 1), target.flatten(0, 1)
        self.seen = t.detach()
        s = (self.similarity(z, t) / self.temperature).view(N, V, N, J)
        positive = s.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (N, V, J)
        if N == 1:  # no other images
            return Terms(contrast=-over_pairs(positive))
        own = torch.eye(N, dtype=torch.bool, device=s.device)[:, None, :, None]
        negative = s.masked_fill(own, -torch.inf).flatten(2).logsumexp(dim=2, keepdim=True)  # (N, V, 1)
        return Terms(contrast=over_pairs(negative - positive))


class DCL(JointEmbedding, objective="dcl"):
    """SimCLR whose positives do not compete with its negatives, for smaller batches (Yeh et al. 2022)."""
