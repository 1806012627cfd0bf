import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslx.api import Context, JointEmbedding, Objective, Term, Terms, Use, bits, key, option


class SIGReg(Objective):
    """Distance of views from their mean, and of embeddings from N(0, I) (LeJEPA, Balestriero & LeCun 2025).

        (1 - λ) mean ‖z_nv - μ_n‖²/D + λ/V Σ_v mean_a T({a·z_nv}_n)
        T = N ∫ |1/N Σ_n exp(i t x_n) - exp(-t²/2)|² exp(-t²/2) d t

    μ_n is the mean of the whole views of image n, and a are random directions, others in each step and the same on all
    processes. T is the statistic of Epps and Pulley, which is zero only if x is normal; the integral from -r to r is
    the trapezoidal rule. The mean over D is that of the authors' code, where the paper has the sum.
    """

    gated = True
    least_images = 2

    weight: float = option(default=0.02, ge=0, le=1, help="Weight of the distance from N(0, I) (λ).")
    count: int = option(default=256, gt=0, help="Number of random directions in each step (a).")
    reach: float = option(default=5.0, gt=0, help="Largest frequency of the integral (r); 3 in the authors' example.")
    knots: int = option(default=17, gt=1, help="Number of frequencies from 0 to r at which the integrand is computed.")

    def build(self, ctx: Context) -> Context:
        self.step = nn.Buffer(torch.tensor(0))
        return ctx

    def directions(self, D: int) -> Tensor:
        """Directions of length 1, uniform on the sphere, a function of the step, (D, count)."""
        uniform = (bits(key(Use.STEP, self.step), D * self.count) >> 11).double() * 2.0**-52  # in [-1, 1)
        normal = torch.erfinv(uniform + 2.0**-53)
        return normalize(normal.view(D, self.count), dim=0)

    def distance(self, z: Tensor) -> Tensor:
        """Embeddings (N, V, D) -> the mean of T over views and directions."""
        t = torch.linspace(0, self.reach, self.knots, device=z.device, dtype=z.dtype)
        normal = (-t.square() / 2).exp()
        angles = (z @ self.directions(z.shape[2]).to(z.dtype))[..., None] * t  # (N, V, directions, knots)
        error = (angles.cos().mean(dim=0) - normal).square() + angles.sin().mean(dim=0).square()
        return len(z) * 2 * torch.trapezoid(error * normal, t).mean()  # twice: the integrand is symmetric

    def forward(self, online: Tensor, target: Tensor) -> Terms:
        invariance = (online - target.mean(dim=1, keepdim=True)).square().mean()
        return Terms(
            invariance=Term(invariance, weight=1 - self.weight, minimum=0.0),
            sigreg=Term(self.distance(online), weight=self.weight, minimum=0.0),
        )

    def after_step(self, step: int) -> None:
        self.step.add_(1)


class LeJEPA(JointEmbedding, objective="sigreg", projector=(512, 512, 64)):
    """Makes views agree and embeddings follow N(0, I), so that they cannot collapse (Balestriero & LeCun 2025).

    There is no teacher, predictor or stopped gradient. The authors' example has four views, heads of 2048-2048-16 and
    a vision transformer, `encoder=vit`; their large trainings have two whole views and six local crops.
    """
