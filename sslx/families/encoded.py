from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Literal

from torch import Tensor

from sslx.core.public import ConfigError, Context, Encoder, Method, option, slot


class Encoded(Method):
    """A method with an encoder, of which the chosen representation is evaluated."""

    encoder: Encoder = slot(default="mlp", help="Network whose output is evaluated.")
    representation: Literal["features", "latent", "embedding"] = option(
        default="features",
        help="What is evaluated: the pooled features of the network, the latent, which is the encoder's output, or the "
        "embedding, which is the projector's. An encoder without features below its last layer gives its latent.",
    )

    def build(self, ctx: Context) -> Context:
        ctx = super().build(ctx.but(posterior=self.encoder.__call__))
        if self.representation == "embedding" and "embedding" not in self.outputs():
            raise ConfigError(f"representation: {type(self).__name__} has no projector, expected features or latent")
        return ctx

    def represent(self, x: Tensor) -> Tensor:
        known = self.outputs()
        return known.get(self.representation, known["latent"])(x)

    def representations(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        if type(self).represent is not Encoded.represent:  # a class that defines it decides what it is
            return {self.representation: self.represent}
        return self.outputs()

    def outputs(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The features of the encoder, if it has any, and its latent, as functions of images (B, C, H, W)."""
        found: dict[str, Callable[[Tensor], Tensor]] = {"latent": MethodType(_latent, self.encoder)}
        if type(self.encoder).features is not Encoder.features:
            found["features"] = self.encoder.features
        return found


def _latent(encoder: Encoder, x: Tensor) -> Tensor:
    z: Tensor = encoder(x).mean
    return z
