"""The loss of a method as named terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Term", "Terms"]


class Term(NamedTuple):
    """One scalar of a loss, to be minimized, with its weight and its global minimum if theory gives one.

    `reason` says why the value is not finite, if that is known. The run then stops with this message.
    """

    value: Tensor
    weight: float = 1.0
    minimum: float | None = None
    reason: str = ""


class Terms(dict[str, Term]):
    """The named terms of a loss. The engine minimizes `total` and records every term unweighted.

    Example: `Terms(reconstruction=r, prior=Term(p, weight=10.0, minimum=0.0))`. A bare tensor has weight 1.
    """

    def __init__(self, terms: Mapping[str, Term | Tensor] = {}, /, **named: Term | Tensor) -> None:
        super().__init__({name: t if isinstance(t, Term) else Term(t) for name, t in {**terms, **named}.items()})

    @property
    def total(self) -> Tensor:
        """Weighted sum of the terms, a scalar. A term of weight 0 that is not finite is left out, as 0 · inf is NaN."""
        counted = (term for term in self.values() if term.weight or term.value.isfinite().all())
        return torch.stack([term.weight * term.value for term in counted] or [torch.zeros(())]).sum()
