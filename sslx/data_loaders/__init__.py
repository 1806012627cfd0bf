"""The built-in datasets, loaders and view policies, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, dataset, hookimpl, loader, views as policy  # `views` is a folder here


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.data_loaders"
    yield dataset(
        "digits", f"{here}.datasets.digits:Digits", summary="1797 real digits of 8x8, embedded (scikit-learn)"
    )
    yield dataset("mnist", f"{here}.datasets.mnist:MNIST", summary="70 000 digits of 28x28")
    yield dataset("fashion-mnist", f"{here}.datasets.mnist:FashionMNIST", summary="70 000 pieces of clothing of 28x28")
    yield dataset("cifar10", f"{here}.datasets.natural:CIFAR10", summary="60 000 photographs of 32x32 in 10 classes")
    yield dataset("cifar100", f"{here}.datasets.natural:CIFAR100", summary="60 000 photographs of 32x32 in 100 classes")
    yield dataset("svhn", f"{here}.datasets.natural:SVHN", summary="99 289 house numbers of 32x32")
    yield dataset(
        "stl10", f"{here}.datasets.natural:STL10", summary="113 000 photographs of 96x96, most without a label"
    )
    yield dataset("celeba", f"{here}.datasets.celeba:CelebA", summary="182 732 faces with 40 attributes")
    yield dataset(
        "imagenet",
        f"{here}.datasets.imagenet:ImageNet",
        summary="1 281 167 photographs in 1000 classes, if you have it",
    )
    yield dataset("folder", f"{here}.datasets.folder:Folder", summary="your own images: folder:PATH")
    yield dataset("beton", f"{here}.datasets.converted:Converted", summary="what sslx data convert wrote: beton:FILE")
    yield dataset("moons", f"{here}.datasets.points:Moons", summary="two moons of points in the plane, generated")
    yield dataset("circles", f"{here}.datasets.points:Circles", summary="two circles of points in the plane, generated")
    yield dataset(
        "mnist-addition", f"{here}.datasets.addition:Addition", summary="triples of digits, the third the sum"
    )
    yield dataset(
        "styled-fashion", f"{here}.datasets.styled:Styled", summary="Fashion-MNIST, rotated, shifted and darkened"
    )
    yield loader("memory", f"{here}.loaders.memory:Memory", summary="the whole set as one tensor on the device")
    yield loader("ffcv", f"{here}.loaders.ffcv:FFCV", summary="a memory-mapped file, decoded ahead (extra ffcv)")
    yield policy(
        "restyle", f"{here}.views.restyle:Restyle", summary="rotated, shifted and darkened, for styled-fashion"
    )
    yield policy("noise", f"{here}.views.noise:Noise", summary="normal noise, for points")
    yield policy(
        "standard", f"{here}.views.standard:Standard", summary="crop, flips, colour, blur and more, all off by default"
    )
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
        yield policy(name, f"{here}.views.papers:{cls}", summary=summary, paper=paper)
