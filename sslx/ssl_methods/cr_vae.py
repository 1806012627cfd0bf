"""The consistency-regularised VAE."""

from __future__ import annotations

from typing import Literal

import attrs
from torch.distributions import Normal, kl_divergence

from sslx.api import VAE, ConfigError, Context, Term, Terms, Views, option


class CRVAE(VAE):
    """Maximises ELBO(x) + E[ELBO(x̃)] - λ E[KL(q(z|x̃) ‖ q(z|x))] over views x̃ of x (Sinha & Dieng 2021).

    The official code does not run, and takes exp(log σ²) for σ. SimVAE does not say what its x is.
    """

    consistency: float = option(default=0.1, ge=0, help="λ; 0.1 in SimVAE's comparison, 1e-3 in the official code")
    anchor: Literal["original", "view"] = option(
        default="original", help="x: the image before it is augmented, or the first of two or more views"
    )

    def build(self, ctx: Context) -> Context:
        if self.anchor == "view" and ctx.views < 2:
            raise ConfigError(f"anchor=view: expected two or more views of each image, got {ctx.views}")
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        if self.anchor == "original":
            x, augmented = attrs.evolve(views, x=views.original[:, None]), views
        else:
            x, augmented = attrs.evolve(views, x=views.x[:, :1]), attrs.evolve(views, x=views.x[:, 1:])
        q, q_augmented = self.encoder(x.flat), self.encoder(augmented.flat)
        terms = self.bound(augmented, q_augmented)
        terms.update(
            {name: term._replace(value=term.value + terms[name].value) for name, term in self.bound(x, q).items()}
        )
        # (N, J, D) and (N, 1, D): each view beside the image it was made of.
        divergence = kl_divergence(
            Normal(augmented.group(q_augmented.mean), augmented.group(q_augmented.stddev)),
            Normal(x.group(q.mean), x.group(q.stddev)),
        )
        terms["consistency"] = Term(divergence.sum(dim=2).mean(), self.consistency, minimum=0.0)
        return terms
