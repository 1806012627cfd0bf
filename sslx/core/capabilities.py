"""Optional abilities of components, as protocols. `can` tells whether a component has one.

A class has a capability if it defines its functions. If an instance does not have it after all, for example because an
optional energy is absent, `lacks` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from torch import Tensor
from typing_extensions import TypeIs

__all__ = ["Clusters", "Decodes", "Diagnoses", "HasDensity", "HasTokens", "Reconstructs", "Samples", "can"]


class Reconstructs(Protocol):
    """A method that can turn an image into a representation and back."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""


class Decodes(Protocol):
    """A method that can turn latents into images."""

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""


class Samples(Protocol):
    """A method that can generate new images."""

    def sample(self, n: int) -> Tensor:
        """n -> (n, C, H, W)."""


class HasDensity(Protocol):
    """A method with a density of images, or an objective with a density of embeddings."""

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, D) for an objective, -> (B,): log p(x) or a bound on it, up to a constant."""


class HasTokens(Protocol):
    """An encoder that gives a vector for each patch of an image, a token. Patches are in rows from the top left."""

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the pixels of each patch, (B, h, w, P). There are T = h·w patches."""

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, T, F). With the positions of K patches, (B, K), the network sees no others: (B, K, F)."""


class Clusters(Protocol):
    """A method that assigns images to clusters, or a prior that assigns sets of related latents."""

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (N, J, D) for a prior, -> log-probabilities (B, K)."""


class Diagnoses(Protocol):
    """A method that can say in which way its training failed."""

    def diagnosis(self, excess: Mapping[str, float]) -> str:
        """The distance of each term of the loss from its known minimum -> a sentence."""


_Capability = TypeVar("_Capability")


def can(subject: object, capability: Callable[..., _Capability]) -> TypeIs[_Capability]:
    """Whether a component has a capability, as in `if can(method, Samples): method.sample(64)`."""
    names = [name for name in vars(capability) if not name.startswith("_")]
    return capability not in getattr(subject, "lacks", tuple)() and all(hasattr(subject, name) for name in names)
