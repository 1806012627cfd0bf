"""Contrastive divergence with persistent chains of Langevin dynamics."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sslx.api import ConfigError, Context, Energy, HasDensity, Method, Term, Terms, can, gather, option

_DIVERGED = 1e8  # where JEM's code ends a run


class SGLD(Energy):
    """Trains a density p(x) ∝ exp f(x): f rises on images x and falls on samples x⁻ of a Langevin sampler.

        minimize E f(x⁻) - E f(x), which has the gradient of -log p(x) if x⁻ are samples of p   (GEDI, Eq. 7)
        x⁻ ← x⁻ + a ∇f(x⁻) + s ε, ε ~ N(0, I), T times

    Chains x⁻ continue where an earlier step left them (Tieleman 2008). With probability ρ a chain restarts, uniform in
    the box of the images seen so far, which begins as [0, 1] in each channel. While sampling, the method is in
    evaluation mode, because the density of an image must not depend on the rest of the batch, and in float32. a = s²/2
    is Langevin dynamics at temperature 1; JEM has a = 1 and s = 0.01 for pixels in [-1, 1], which is the default here
    for pixels in [0, 1]. GEDI and JEM do not clamp, and draw chains with replacement.
    """

    divisible = ("buffer",)

    steps: int = option(default=20, gt=0, help="Sampler steps in a training step (T); GEDI has 20, and 1 for points.")
    step_size: float = option(default=0.25, gt=0, help="Step size of the sampler (a).")
    noise: float = option(default=0.005, ge=0, help="Standard deviation of the sampler's noise (s).")
    chains: int = option(default=10_000, gt=0, help="Number of sampler chains kept between steps.")
    restart: float = option(default=0.05, ge=0, le=1, help="Probability that a chain restarts from uniform noise (ρ).")
    clamp: bool = option(default=True, help="Whether chains are kept in the box of the images.")
    magnitude: float = option(default=0.0, ge=0, help="Weight of the penalty E f(x)² + E f(x⁻)², times `weight`.")
    draw_steps: int = option(default=200, ge=0, help="Sampler steps run when images are drawn from a trained model.")
    compiled: bool = option(default=False, help="Whether ∇f is compiled by torch.compile, for many steps.")

    def build(self, ctx: Context) -> Context:
        channels = (ctx.image_shape[0], 1, 1)
        self.low = nn.Buffer(torch.zeros(channels))
        self.high = nn.Buffer(torch.ones(channels))
        self.buffer = torch.rand(self.chains, *ctx.image_shape)  # on the CPU, and different on each process
        return ctx

    def forward(self, model: Method, x: Tensor) -> Terms:
        if len(x) > self.chains:
            raise ConfigError(f"energy.chains: expected at least {len(x)}, the images of a step, got {self.chains}")
        with density(model) as f, torch.autocast(x.device.type, enabled=False):
            x = x.detach().float()
            extremes = gather(torch.stack([x.amin(dim=(0, 2, 3)), -x.amax(dim=(0, 2, 3))])[None]).amin(dim=0)
            lowest, highest = extremes[:, :, None, None] * x.new_tensor([1, -1])[:, None, None, None]
            low, high = self.box = (torch.minimum(self.low, lowest), torch.maximum(self.high, highest))
            chosen = torch.randperm(self.chains)[: len(x)]
            start = self.buffer[chosen].to(x.device)
            again = torch.rand(len(x), device=x.device) < self.restart
            uniform = low + (high - low) * torch.rand_like(start)
            start = torch.where(again[:, None, None, None], uniform, start)
            negative = self.langevin(f, start, self.steps, low, high)
            values = f(torch.cat([x, negative]))
        self.moved = chosen, negative.cpu()
        return self.terms(values[: len(x)], values[len(x) :], negative)

    def terms(self, data: Tensor, drawn: Tensor, negative: Tensor) -> Terms:
        """f(x) and f(x⁻), (B,) each, and x⁻ -> the terms of the loss."""
        difference, reason = drawn.mean() - data.mean(), ""
        if not abs(difference) < _DIVERGED:
            difference = difference * math.nan
            reason = (
                f"the sampler diverged: f is {drawn.mean():.3g} on its samples and {data.mean():.3g} on images, pixels "
                f"reach {negative.abs().max():.3g}; a smaller energy.step_size, or energy.magnitude, helps"
            )
        terms = Terms(generative=Term(difference, self.weight, reason=reason))
        if self.magnitude:
            squares = data.square().mean() + drawn.square().mean()
            terms["magnitude"] = Term(squares, self.weight * self.magnitude)
        return terms

    def langevin(self, f: Callable[[Tensor], Tensor], x: Tensor, steps: int, low: Tensor, high: Tensor) -> Tensor:
        """Chains (B, C, H, W) -> where they are after so many steps, (B, C, H, W)."""
        gradient = torch.compile(_compilable_gradient) if self.compiled else gradient_of
        with torch.no_grad():
            for _ in range(steps):
                x = x + self.step_size * gradient(f, x) + self.noise * torch.randn_like(x)
                x = x.clamp(low, high) if self.clamp else x
        return x

    def sample(self, model: Method, n: int) -> Tensor:
        """n images, (n, C, H, W): chains of the buffer after `draw_steps` more steps."""
        start = self.buffer[torch.randint(self.chains, (n,))].to(self.low.device)
        with density(model) as f:
            return self.langevin(f, start, self.draw_steps, self.low, self.high)

    def after_step(self, step: int) -> None:
        low, high = self.box
        self.low.copy_(low)
        self.high.copy_(high)
        chosen, states = self.moved
        self.buffer[chosen] = states

    def local_state(self) -> dict[str, Tensor]:
        return {"buffer": self.buffer}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        self.buffer = state["buffer"].clone()


def gradient_of(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """∇f(x) of each image, (B, C, H, W)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(f(x).sum(), x)
    return gradient


def _compilable_gradient(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The same in a form that can be compiled, and that is slower if it is not."""
    return torch.func.grad(lambda x: f(x).sum())(x)


@contextmanager
def density(model: Method) -> Iterator[Callable[[Tensor], Tensor]]:
    """The method's f, (B, C, H, W) -> (B,), with the whole method in evaluation mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        assert can(model, HasDensity), "a method with an energy has a density"
        yield model.log_density
    finally:
        for module in training:
            module.training = True
