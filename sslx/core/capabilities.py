"""What a component can do beyond its interface, as protocols: who needs such a function asks for it with `can`.

A class that defines one of these functions has the capability. Where that depends on the parts of an instance, as an
energy that is optional, the instance says so in `lacks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from torch import Tensor
from typing_extensions import TypeIs

__all__ = ["Clusters", "Decodes", "Diagnoses", "HasDensity", "Reconstructs", "Samples", "can"]


class Reconstructs(Protocol):
    """A method that shows what is left of an image in its representation."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""


class Decodes(Protocol):
    """A method that makes images of latents."""

    def decode(self, z: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W)."""


class Samples(Protocol):
    """A method that draws new images."""

    def sample(self, n: int) -> Tensor:
        """n -> (n, C, H, W)."""


class HasDensity(Protocol):
    """A method with log p(x), a bound on it, or either up to a constant; an objective with one of embeddings."""

    def log_density(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (B, D) for an objective, -> (B,)."""


class Clusters(Protocol):
    """A method with clusters of its own; a prior with clusters of sets of latents."""

    def cluster(self, x: Tensor) -> Tensor:
        """(B, C, H, W), or (N, J, D) for a prior, -> log-probabilities (B, K)."""


class Diagnoses(Protocol):
    """A method that says what is wrong with a finished training."""

    def diagnosis(self, excess: Mapping[str, float]) -> str:
        """The distance of each term from its known minimum -> a sentence."""


_Capability = TypeVar("_Capability")


def can(subject: object, capability: Callable[..., _Capability]) -> TypeIs[_Capability]:
    """Whether a component has a capability: `if can(method, Samples): method.sample(64)`."""
    names = [name for name in vars(capability) if not name.startswith("_")]
    return capability not in getattr(subject, "lacks", tuple)() and all(hasattr(subject, name) for name in names)
