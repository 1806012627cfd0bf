"""Counter-based randomness: every random number is a pure function of a key, which says what it is used for.

The generator is SplitMix64 (Steele, Lea & Flood 2014), with a hash of the key as its state. The numbers of a sample do
not depend on batch, order, device, process or earlier draws, and no state has to be saved to resume.
"""

from __future__ import annotations

import enum

import torch
from torch import Tensor

__all__ = ["Use", "bits", "key", "mix", "permutation", "seed_of", "uniform"]

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # torch computes with signed 64-bit integers
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


class Use(enum.IntEnum):
    """The purpose of random numbers. It is the first part of every key, so that no two purposes share numbers."""

    WEIGHTS = 1  # initial weights
    ORDER = 2  # order of the images in an epoch
    VIEWS = 3  # what happens to each image in each view
    STEP = 4  # noise of a training step
    SUBSET = 5  # which images are kept or set apart
    EVALUATION = 6  # everything that scores and pictures draw
    DATA = 7  # images that a dataset makes
    EPOCH = 8  # torch's own generators, at the beginning of an epoch
    MASKS = 9  # which patches are hidden
    SEARCH = 10  # which options a search tries


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right. The operator of torch keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer: a bijection of int64 in which each input bit flips each output bit half the time."""
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def key(use: Use, *parts: int | Tensor) -> Tensor:
    """An int64 key for each element of the broadcast parts (integers or int64 tensors)."""
    state = mix(torch.tensor(int(use), dtype=torch.int64) + _GOLDEN)
    for part in parts:
        part = torch.as_tensor(part, dtype=torch.int64)
        state = mix((state.to(part.device) ^ part) + _GOLDEN)
    return state


def bits(key: Tensor, draws: int) -> Tensor:
    """(...) keys -> (..., draws) uniform int64."""
    counter = torch.arange(1, draws + 1, device=key.device) * _GOLDEN
    return mix(key[..., None] + counter)


def uniform(key: Tensor, draws: int) -> Tensor:
    """(...) keys -> (..., draws) float32 numbers, uniform on the multiples of 2⁻²⁴ in [0, 1)."""
    return _shift(bits(key, draws), 40).to(torch.float32) * 2.0**-24


def permutation(n: int, use: Use, *parts: int) -> Tensor:
    """A random order of 0..n-1, (n,) int64 on the CPU."""
    return mix(key(use, *parts, torch.arange(n))).argsort(stable=True)


def seed_of(use: Use, *parts: int) -> int:
    """A seed for the generators of torch or numpy, 0 <= seed < 2⁶³."""
    return int(key(use, *parts)) & ((1 << 63) - 1)


def seed_torch(seed: int) -> None:
    """Seed torch's generators in about 1 µs. `torch.manual_seed` takes 480 µs on a CUDA build without a GPU."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)


borrowed = torch.random.fork_rng  # as a context manager, restores torch's random state at the end
