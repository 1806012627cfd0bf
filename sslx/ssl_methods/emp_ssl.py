import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from sslx.api import JointEmbedding, Objective, Term, Terms, option


class CodingRate(Objective):
    """Agreement of views with their mean, and a large coding rate of each view (Tong et al. 2023).

        -1/V Σ_v [R(Z_v) + λ mean cos(z_nv, z̄_n)],  R(Z) = ½ log det(I + D/(N ε²) ZᵀZ)

    Z_v are the embeddings of view v of all images, of unit length, and z̄_n is the mean of those of image n.
    """

    least_images = 2

    agreement: float = option(default=200.0, ge=0, help="Weight of the agreement of views (λ).")
    precision: float = option(default=0.2, gt=0, help="Precision at which embeddings are coded (ε²).")

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        N, _, D = online.shape
        z = normalize(online, dim=2)
        gram = torch.einsum("nvd,nve->vde", z, z) * D / (N * self.precision)
        factor = torch.linalg.cholesky(gram + torch.eye(D, device=z.device, dtype=z.dtype))
        rate = factor.diagonal(dim1=1, dim2=2).log().sum(dim=1).mean()  # half the logarithm of the determinant
        cosine = cosine_similarity(z, z.mean(dim=1, keepdim=True), dim=2).mean()
        return Terms(coding_rate=-rate, agreement=Term(-cosine, weight=self.agreement, minimum=-1.0))


class EMPSSL(JointEmbedding, objective="coding-rate"):
    """Learns in few epochs from many small patches of each image, which agree with their mean (Tong et al. 2023).

    The paper's patches are crops of a quarter of the image in the colours of SimCLR, `--set views.crop=0.25,0.25 --set
    views.ratio=1,1`, and 20 to 200 of them. It evaluates the mean over 128 patches of an image; here an image is
    evaluated whole, as for all methods.
    """

    defaults = {"views": {"count": 20}}
