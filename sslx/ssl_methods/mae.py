from torch import Tensor

from sslx.api import Context, Term, Terms, Use, Views, option
from sslx.ssl_methods.networks.vit import check_width, picked
from sslx.ssl_methods.parts.masked import Masked, Predictor, shuffled


class MAE(Masked):
    """Reconstructs the pixels of most patches of an image from the few that the encoder sees (He et al. 2022).

        minimize 1/|M| Σ_{t in M} mean (g(f(x_V))_t - x̄_t)²

    M are the hidden patches, V the visible ones, drawn anew for each image in each epoch, and x̄_t the pixels of a
    patch, standardized with their own mean and variance (Section 3). f is the encoder and g a small decoder, which sees
    tokens of V and a learned vector in place of those of M. The paper's decoder has 8 blocks of width 512 beside a
    ViT-L of 24 blocks of width 1024, and its crops are of 0.2 to 1 of the image, with flips.
    """

    masked: float = option(default=0.75, gt=0, lt=1, help="Share of the patches that the encoder does not see.")
    width: int = option(default=96, gt=0, help="Width of the decoder.")
    depth: int = option(default=2, gt=0, help="Number of blocks of the decoder.")
    heads: int = option(default=3, gt=0, help="Number of attention heads in each block of the decoder.")
    standardize: bool = option(default=True, help="Whether the pixels to predict are standardized patch by patch.")

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        check_width("width", self.width, self.heads)
        T = self.grid[0] * self.grid[1]
        self.visible = min(T - 1, max(1, round(T * (1 - self.masked))))
        self.decoder = Predictor(ctx.latent, self.pixels, self.grid, self.width, self.depth, self.heads)
        return ctx

    def target(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> what is predicted of each patch, x̄, (B, T, P)."""
        x = self.patches(x).flatten(1, 2)
        if not self.standardize:
            return x
        variance, mean = x.var(dim=2, keepdim=True), x.mean(dim=2, keepdim=True)
        return (x - mean) / (variance + 1e-6).sqrt()

    def forward(self, views: Views) -> Terms:
        x = views.flat
        order = shuffled(views.keys(Use.MASKS), self.grid[0] * self.grid[1])  # (B, T)
        V, M = order[:, : self.visible], order[:, self.visible :]
        predicted = self.decoder(self.tokens(x, V), V, M).float()
        error = (predicted - picked(self.target(x), M)).square().mean()
        return Terms(reconstruction=Term(error, minimum=0.0))
