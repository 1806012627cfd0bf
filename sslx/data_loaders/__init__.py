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
    yield dataset("cifar10", f"{here}.natural:CIFAR10", summary="60 000 photographs of 32x32 in 10 classes")
    yield dataset("cifar100", f"{here}.natural:CIFAR100", summary="60 000 photographs of 32x32 in 100 classes")
    yield dataset("svhn", f"{here}.natural:SVHN", summary="99 289 house numbers of 32x32")
    yield dataset("stl10", f"{here}.natural:STL10", summary="113 000 photographs of 96x96, most without a label")
    yield dataset("celeba", f"{here}.celeba:CelebA", summary="182 732 faces with 40 attributes")
    yield dataset(
        "imagenet", f"{here}.imagenet:ImageNet", summary="1 281 167 photographs in 1000 classes, if you have it"
    )
    yield dataset("folder", f"{here}.folder:Folder", summary="your own images: folder:PATH")
    yield dataset("beton", f"{here}.beton:Converted", summary="what sslx data convert wrote: beton:FILE")
    yield dataset("moons", f"{here}.points:Moons", summary="two moons of points in the plane, generated")
    yield dataset("circles", f"{here}.points:Circles", summary="two circles of points in the plane, generated")
    yield dataset("mnist-addition", f"{here}.derived:Addition", summary="triples of digits, the third the sum")
    yield dataset("styled-fashion", f"{here}.derived:Styled", summary="Fashion-MNIST, rotated, shifted and darkened")
    yield loader("memory", f"{here}.memory:Memory", summary="the whole set as one tensor on the device")
    yield loader("ffcv", f"{here}.ffcv:FFCV", summary="a memory-mapped file, decoded ahead (extra ffcv)")
    yield views("restyle", f"{here}.derived:Restyle", summary="rotated, shifted and darkened, for styled-fashion")
    yield views("noise", f"{here}.points:Noise", summary="normal noise, for points")
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
