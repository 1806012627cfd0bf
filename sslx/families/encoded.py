from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from sslx.core.public import ConfigError, Context, Encoder, Method, Representation, option, slot


class Encoded(Method):
    """A method with an encoder, of which the chosen representation is evaluated."""

    encoder: Encoder = slot(default="mlp", help="Network whose output is evaluated.")
    representation: Representation = option(
        default="features",
        help="What is evaluated: the pooled features of the network, the latent, which is the encoder's output, or the "
        "embedding, which is the projector's. An encoder without features below its last layer gives its latent.",
    )

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx)
        if self.representation == "embedding" and "embedding" not in self.representations():
            raise ConfigError(f"representation: {type(self).__name__} has no projector, expected features or latent")
        return ctx

    def represent(self, x: Tensor) -> Tensor:
        known = self.representations()
        return known.get(self.representation, known["latent"])(x)

    def representations(self) -> Mapping[Representation, Callable[[Tensor], Tensor]]:
        found: dict[Representation, Callable[[Tensor], Tensor]] = {"latent": lambda x: self.encoder(x).mean}
        if type(self.encoder).features is not Encoder.features:
            found["features"] = self.encoder.features
        return found
