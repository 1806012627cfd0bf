"""What a method returns: the named terms of its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Term", "Terms"]


class Term(NamedTuple):
    """One scalar of a loss, to be minimised, with its weight and, where theory knows it, its global minimum.

    `reason` says why a value is not finite, where that is known; the run then stops with it.
    """

    value: Tensor
    weight: float = 1.0
    minimum: float | None = None
    reason: str = ""


class Terms(dict[str, Term]):
    """The named terms of a loss. The engine minimises `total` and records every term unweighted.

    `Terms(reconstruction=r, prior=Term(p, weight=10.0, minimum=0.0))`; a bare tensor has weight 1.
    """

    def __init__(self, terms: Mapping[str, Term | Tensor] = {}, /, **named: Term | Tensor) -> None:
        super().__init__({name: t if isinstance(t, Term) else Term(t) for name, t in {**terms, **named}.items()})

    @property
    def total(self) -> Tensor:
        """Weighted sum, a scalar."""
        return torch.stack([term.weight * term.value for term in self.values()]).sum()
