from typing import Literal

import attrs
from torch.distributions import Normal, kl_divergence

from sslx.api import VAE, ConfigError, Context, Term, Terms, Views, option, resized


class CRVAE(VAE):
    """A VAE whose posterior is the same for an image and its augmented views (Sinha & Dieng 2021).

        maximize ELBO(x) + E[ELBO(x̃)] - λ E[KL(q(z|x̃) ‖ q(z|x))] over views x̃ of x

    The official code does not run and uses exp(log σ²) as σ. SimVAE does not say what its x is.
    """

    consistency: float = option(default=0.1, ge=0, help="Weight of the divergence (λ); SimVAE 0.1, official code 1e-3.")
    anchor: Literal["original", "view"] = option(default="original", help="Choice of x: the image or its first view.")

    def build(self, ctx: Context) -> Context:
        if self.anchor == "view" and ctx.views < 2:
            raise ConfigError(f"anchor=view: expected two or more views of each image, got {ctx.views}")
        return super().build(ctx)

    def forward(self, views: Views) -> Terms:
        if self.anchor == "original":
            x, augmented = attrs.evolve(views, x=resized(views.original, self.size)[:, None]), views
        else:
            x, augmented = attrs.evolve(views, x=views.x[:, :1]), attrs.evolve(views, x=views.x[:, 1:])
        q, q_augmented = self.encoder(x.flat), self.encoder(augmented.flat)
        terms = self.bound(augmented, q_augmented)
        for name, term in self.bound(x, q).items():
            terms[name] = term._replace(value=term.value + terms[name].value)
        # (N, J, D) and (N, 1, D): each view is compared with its image.
        divergence = kl_divergence(
            Normal(augmented.group(q_augmented.mean), augmented.group(q_augmented.stddev)),
            Normal(x.group(q.mean), x.group(q.stddev)),
        )
        terms["consistency"] = Term(divergence.sum(dim=2).mean(), self.consistency, minimum=0.0)
        return terms
