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
    yield views("standard", f"{here}.policy:Standard", summary="crop, flips, colour, blur and more, all off by default")
    for name, cls, summary, paper in (
        ("simvae-grey", "SimVAEGrey", "SimVAE on MNIST and Fashion-MNIST", "SimVAE"),
        ("simvae-colour", "SimVAEColour", "SimVAE on CIFAR-10 and CelebA", "SimVAE"),
        ("gedi", "GEDI", "GEDI on CIFAR", "GEDI"),
        ("gedi-digits", "GEDIDigits", "GEDI on SVHN and MNIST", "GEDI"),
        ("aasae", "AASAE", "AASAE on CIFAR-10", "AASAE"),
        ("simclr", "SimCLR", "SimCLR on ImageNet, AASAE on STL-10", "arXiv:2002.05709"),
        ("simclr-cifar", "SimCLRCifar", "SimCLR on CIFAR-10", "arXiv:2002.05709"),
        ("byol", "BYOL", "BYOL on ImageNet, two branches that differ", "arXiv:2006.07733"),
        ("dino", "DINO", "DINO on ImageNet, two large and eight small crops", "arXiv:2104.14294"),
    ):
        yield views(name, f"{here}.policies:{cls}", summary=summary, paper=paper)
