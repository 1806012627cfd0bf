from sslx.api import Context, Encoded, Terms, Views


class Random(Encoded, representation="latent"):
    """An encoder with its initial weights. It has nothing to train and is what other methods are compared with.

    With `encoder=pixels` or `encoder=pca` it is the baseline of that name in tables.
    """

    defaults = {"train": {"epochs": 0}}

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        self.requires_grad_(False)
        return ctx

    def forward(self, views: Views) -> Terms:
        return Terms()
