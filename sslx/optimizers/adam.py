from typing import Any

import torch

from sslx.api import Optimizer, option


class Adam(Optimizer):
    """Steps scaled by running moments of the gradient (Kingma & Ba 2015). The decay is part of the gradient."""

    betas: tuple[float, float] = option(default=(0.9, 0.999), ge=0, lt=1, help="Decay of the moments (β₁, β₂).")
    eps: float = option(default=1e-8, gt=0, help="Added to the denominator; SimVAE's code has 1e-4.")

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, betas=self.betas, eps=self.eps, fused=True)


class AdamW(Adam):
    """Adam whose weight decay does not pass through the moments (Loshchilov & Hutter 2019)."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, betas=self.betas, eps=self.eps, fused=True)
