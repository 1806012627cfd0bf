"""A step that the host does not wait for: a flag on the device decides whether the step changes anything.

Once a loss or a gradient is not finite, the flag stays set and no later step changes anything, until the host reads the
flag. So the host reads it only when something is logged, and still finds the state from before the bad step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.interfaces import Module

#: Kinds of devices whose steps are gated. On a CPU nothing is gained: reading a number does not wait.
DEVICES = ("cuda",)


def gateable(method: nn.Module) -> bool:
    """Whether a gate can undo what `after_step` of a method and of all its parts does.

    This needs `gated = True` in each class that defines `after_step`, or in a subclass of it, and state that lies in
    memory without gaps.
    """
    declared = all(_declared(type(part)) for part in method.modules() if isinstance(part, Module))
    state = _distinct([*method.buffers(), *_frozen(method)])
    return declared and all(
        each.is_contiguous() or (each.ndim == 4 and each.is_contiguous(memory_format=torch.channels_last))
        for each in state
    )


def skips(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step of an optimizer changes nothing while its attribute `found_inf` is 1."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def _declared(cls: type[Module]) -> bool:
    for each in cls.__mro__[: cls.__mro__.index(Module)]:
        if "gated" in vars(each):
            return bool(vars(each)["gated"])
        if "after_step" in vars(each):
            return False
    return True


class Gate:
    """Keeps what a step must not change if it is not finite: buffers, and weights that are not trained.

    Args:
        method: the method, whose `after_step` is `gateable`.
        optimizer: skips its step while its attribute `found_inf` is 1, as fused ones of torch do.
    """

    def __init__(self, method: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self.closed = torch.zeros((), device=device)  # 1 from the first step on that was not finite
        self.shut = torch.zeros((), device=device)  # 1 if this step changes nothing
        self.step = torch.full((), -1, device=device)  # the first step that was not finite, and its gradient's norm
        self.norm = torch.zeros((), device=device)
        vars(optimizer)["found_inf"] = self.shut
        self._places = [(part._buffers, name) for part in method.modules() for name in part._buffers]
        self._frozen = _frozen(method)
        self._kept: dict[torch.dtype, Tensor] = {}

    def keep(self) -> None:
        """Remember the state. Called before the forward pass, which moves the statistics of batch normalization."""
        self._kept = {kind: torch.cat(memory) for kind, memory in self._state().items()}

    def judge(self, loss: Tensor, norm: Tensor, step: int, overflow: Tensor | None) -> None:
        """Close the gate for good if a step is not finite; for this step alone if its float16 gradients overflow."""
        loss, norm = loss.detach(), norm.detach()
        steep = ~norm.isfinite() if overflow is None else ~norm.isfinite() & (overflow == 0)
        bad = ~loss.isfinite() | steep
        first = bad & (self.closed == 0)
        self.step.copy_(torch.where(first, step, self.step))
        self.norm.copy_(torch.where(first, norm, self.norm))
        self.closed.logical_or_(bad)
        self.shut.copy_(self.closed if overflow is None else torch.maximum(self.closed, overflow))

    def restore(self) -> None:
        """Undo what this step changed, if the gate is shut. Called after `after_step`."""
        for kind, memory in self._state().items():
            chosen = torch.where(self.shut > 0, self._kept[kind], torch.cat(memory))
            torch._foreach_copy_(memory, list(chosen.split([len(each) for each in memory])))

    def read(self) -> tuple[int, float] | None:
        """Wait for the device. Returns the first step that was not finite and the norm of its gradient, if any."""
        step = int(self.step)
        return None if step < 0 else (step, float(self.norm))

    def _state(self) -> dict[torch.dtype, list[Tensor]]:
        """The memory of all state as tensors of one dimension, by type."""
        buffers = (values[name] for values, name in self._places)
        found: dict[torch.dtype, list[Tensor]] = {}
        for each in _distinct([*buffers, *self._frozen]):
            found.setdefault(each.dtype, []).append(each.detach().as_strided((each.numel(),), (1,)))
        return found


def _frozen(method: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in method.parameters() if not weight.requires_grad]


def _distinct(tensors: Iterable[Any]) -> list[Tensor]:
    return list({id(each): each for each in tensors if isinstance(each, Tensor) and each.numel()}.values())
