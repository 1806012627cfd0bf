"""The built-in datasets, loaders and view policies, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, dataset, hookimpl, loader, views


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.data_loaders"
    yield dataset("digits", f"{here}.datasets:Digits", summary="1797 real digits of 8x8, embedded (scikit-learn)")
    yield dataset("mnist", f"{here}.datasets:MNIST", summary="70 000 digits of 28x28")
    yield dataset("fashion-mnist", f"{here}.datasets:FashionMNIST", summary="70 000 pieces of clothing of 28x28")
    yield loader("memory", f"{here}.memory:Memory", summary="the whole set as one tensor on the device")
    yield views("standard", f"{here}.policy:Standard", summary="random resized crop, flips, colour jitter, grey")
