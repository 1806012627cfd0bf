"""Datasets, loaders and view policies: everything between image files and the views that a method is trained on."""

from collections.abc import Iterator

from sslx.api import Record, dataset, hookimpl, loader, views as policy  # `views` is a folder here

_DATASETS = (
    ("digits", "digits:Digits", "1797 real digits of 8x8 pixels, part of scikit-learn"),
    ("mnist", "mnist:MNIST", "70 000 digits of 28x28 pixels"),
    ("fashion-mnist", "mnist:FashionMNIST", "70 000 pictures of clothes of 28x28 pixels"),
    ("cifar10", "natural:CIFAR10", "60 000 photographs of 32x32 pixels in 10 classes"),
    ("cifar100", "natural:CIFAR100", "60 000 photographs of 32x32 pixels in 100 classes"),
    ("svhn", "natural:SVHN", "99 289 house numbers of 32x32 pixels"),
    ("stl10", "natural:STL10", "113 000 photographs of 96x96 pixels, most without a label"),
    ("celeba", "celeba:CelebA", "182 732 faces with 40 attributes"),
    ("imagenet", "imagenet:ImageNet", "1 281 167 photographs in 1000 classes, from a folder that you have"),
    ("folder", "folder:Folder", "your own images, as folder:PATH"),
    ("beton", "converted:Converted", "a file written by sslx data convert, as beton:FILE"),
    ("moons", "points:Moons", "points of two half moons in the plane, generated"),
    ("circles", "points:Circles", "points of two circles in the plane, generated"),
    ("mnist-addition", "addition:Addition", "triples of digits, the third of which is the sum of the others"),
    ("stand-in", "stand_in:StandIn", "random patterns in the shape of another dataset, to try commands"),
    ("styled-fashion", "styled:Styled", "Fashion-MNIST, rotated, shifted and darkened by known amounts"),
)
_POLICIES = (
    ("standard", "standard:Standard", "crop, flips, colour, blur and more, all off by default", ""),
    ("noise", "noise:Noise", "normal noise, for points", ""),
    ("restyle", "restyle:Restyle", "rotated, shifted and darkened, for styled-fashion", ""),
    ("simvae-grey", "papers:SimVAEGrey", "SimVAE on MNIST and Fashion-MNIST", "SimVAE"),
    ("simvae-colour", "papers:SimVAEColour", "SimVAE on CIFAR-10 and CelebA", "SimVAE"),
    ("gedi", "papers:GEDI", "GEDI on CIFAR", "GEDI"),
    ("gedi-digits", "papers:GEDIDigits", "GEDI on SVHN and MNIST", "GEDI"),
    ("aasae", "papers:AASAE", "AASAE on CIFAR-10", "AASAE"),
    ("simclr", "papers:SimCLR", "SimCLR on ImageNet, AASAE on STL-10", "arXiv:2002.05709"),
    ("simclr-cifar", "papers:SimCLRCifar", "SimCLR on CIFAR-10", "arXiv:2002.05709"),
    ("byol", "papers:BYOL", "BYOL on ImageNet, with two different branches", "arXiv:2006.07733"),
    ("dino", "papers:DINO", "DINO on ImageNet, with two large and eight small crops", "arXiv:2104.14294"),
)


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.data_loaders"
    for name, target, summary in _DATASETS:
        yield dataset(name, f"{here}.datasets.{target}", summary=summary)
    yield loader("memory", f"{here}.loaders.memory:Memory", summary="the whole dataset as one tensor on the device")
    yield loader("ffcv", f"{here}.loaders.ffcv:FFCV", summary="a memory-mapped file, read ahead (extra ffcv)")
    for name, target, summary, paper in _POLICIES:
        yield policy(name, f"{here}.views.{target}", summary=summary, paper=paper)
