"""How precisely a step computes: autocast, TF32, the scale of a loss in float16, and the memory format of convolutions.

Weights, optimizer and losses are float32 whatever the precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.interfaces import Module

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Context of a forward pass: autocast to the 16-bit type of `bf16` or `fp16`; nothing for `fp32` and `tf32`."""
    return torch.autocast(device.type, _HALF[precision]) if precision in _HALF else nullcontext()


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Context of a forward and a backward pass: with `tf32`, float32 matrix products may use TF32, inside only."""
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def advice(precision: str, device: torch.device) -> str:
    """One line on a precision that computes faster on this device; empty if there is none."""
    if precision in _HALF:
        return ""
    if device.type == "cuda":
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            return ""
        exact = "" if precision == "tf32" else ", and tf32 speeds up float32 matrix products"
        gain = f"halves the memory of activations and uses this card's units for bfloat16{exact}"
    elif device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():  # so has every processor with AMX
        gain = "about halves the time of a step, as this processor has units for bfloat16"
    else:
        return ""
    return f"a long run may gain from another train.precision: bf16 {gain}"


def arrange(method: nn.Module) -> None:
    """Store the weights of convolutional parts as channels last, in place: those of each part that asks for it.

    A convolution with such weights passes its images on in this format. The values, and checkpoints, stay the same.
    """
    for part in method.modules():
        if isinstance(part, Module) and part.channels_last:
            part.to(memory_format=torch.channels_last)


def match_strides(optimizer: torch.optim.Optimizer) -> None:
    """Store the state of an optimizer like its weights, as fused steps need it, after it was loaded from elsewhere."""
    for weight, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


class Scaler:
    """The factor that keeps gradients above the smallest numbers of float16, by which the loss is multiplied.

    It begins at 2¹⁶, is halved by a step whose gradient overflows, which changes nothing else, and is doubled after
    2000 steps without one, as in torch's GradScaler. It stays on the device, so that no step waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.scale = torch.full((), 2.0**16, device=device)
        self.streak = torch.zeros((), dtype=torch.int32, device=device)  # number of steps since the last change

    def unscale(self, weights: Sequence[nn.Parameter]) -> Tensor:
        """Divide the gradients by the scale, and move it.

        Returns a flag on the device, 1.0 if the gradients overflow and a smaller scale may help, so that this step is
        to be left out.
        """
        overflow, grads = torch.zeros_like(self.scale), [w.grad for w in weights if w.grad is not None]
        if grads:
            torch._amp_foreach_non_finite_check_and_unscale_(grads, overflow, 1 / self.scale)
        helps = overflow * (self.scale > 1)
        torch._amp_update_scale_(self.scale, self.streak, overflow, 2.0, 0.5, 2000)
        return helps

    def state_dict(self) -> dict[str, Tensor]:
        return {"scale": self.scale, "streak": self.streak}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.scale.copy_(state["scale"])
        self.streak.copy_(state["streak"])
