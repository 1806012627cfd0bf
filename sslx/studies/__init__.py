"""The tables and figures of the papers, and recipes, as a plugin like any other: a TOML file for each."""

from collections.abc import Iterator

from sslx.api import Record, hookimpl, study

_STUDIES = (
    ("gedi-table-2", "GEDITable2", "NMI of GEDI without each of its terms, on moons and circles", "GEDI"),
    ("gedi-table-3", "GEDITable3", "NMI of GEDI, JEM, Barlow Twins and SwAV, on moons and circles", "GEDI"),
    ("gedi-figure-3", "GEDIFigure3", "clusters of GEDI without each of its terms, on moons and circles", "GEDI"),
    ("gedi-figure-4", "GEDIFigure4", "losses of GEDI and their minima, on moons and circles", "GEDI"),
    ("gedi-figure-5", "GEDIFigure5", "clusters and densities of five methods, on moons and circles", "GEDI"),
    ("gedi-figure-8", "GEDIFigure8", "NMI of GEDI for weights of its losses, on moons and circles", "GEDI"),
    ("gedi-table-4", "GEDITable4", "NMI and FID of six methods, three datasets", "GEDI"),
    ("gedi-table-5", "GEDITable5", "other images told from those of SVHN, six methods", "GEDI"),
    ("gedi-table-6", "GEDITable6", "digits learned from sums, with and without the rule", "GEDI"),
    ("gedi-table-10", "GEDITable10", "linear probes of six methods, three datasets", "GEDI"),
    ("gedi-table-11", "GEDITable11", "other images told from those of CIFAR-10, six methods", "GEDI"),
    ("gedi-table-12", "GEDITable12", "other images told from those of CIFAR-100, six methods", "GEDI"),
    ("gedi-figure-6", "GEDIFigure6", "images that GEDI and others draw, CIFAR-10", "GEDI"),
    ("gedi-figure-9", "GEDIFigure9", "images that GEDI and others draw, SVHN", "GEDI"),
    ("gedi-figure-10", "GEDIFigure10", "images that GEDI and others draw, CIFAR-100", "GEDI"),
    ("gedi-figure-11", "GEDIFigure11", "losses of the rule and of views, when the rule alone is learned", "GEDI"),
    ("gedi-text", "GEDIText", "gains in NMI that the abstract states", "GEDI"),
    ("aasae-table-1-left", "AASAETable1Left", "linear evaluation of autoencoders, three datasets", "AASAE"),
    ("aasae-table-1-right", "AASAETable1Right", "linear evaluation of eight other methods, ImageNet", "AASAE"),
    ("aasae-table-2", "AASAETable2", "fine-tuning with 1 % and 10 % of the labels, ImageNet", "AASAE"),
    ("aasae-table-3", "AASAETable3", "transfer to Places205", "AASAE"),
    ("aasae-figure-2", "AASAEFigure2", "densities and accuracy of AASAE over its training", "AASAE"),
    ("aasae-figure-3", "AASAEFigure3", "AASAE with a divergence from the prior", "AASAE"),
    ("aasae-figure-4a", "AASAEFigure4a", "AASAE with other batch sizes", "AASAE"),
    ("aasae-figure-4b", "AASAEFigure4b", "AASAE with other numbers of latent dimensions", "AASAE"),
    ("aasae-figure-4c", "AASAEFigure4c", "AASAE with other decoders", "AASAE"),
    ("aasae-figure-4d", "AASAEFigure4d", "AASAE with other variances of the likelihood", "AASAE"),
    ("aasae-figure-5", "AASAEFigure5", "cosine similarities and posterior collapse of VAE and AASAE", "AASAE"),
    (
        "simvae-iclr-table-1",
        "SimVAEICLRTable1",
        "content from representations of SimVAE and eight others, four datasets",
        "SimVAE (ICLR)",
    ),
    (
        "simvae-iclr-figure-1",
        "SimVAEICLRFigure1",
        "reconstructions of digits and clothes from four representations",
        "SimVAE (ICLR)",
    ),
    ("simvae-iclr-figure-3", "SimVAEICLRFigure3", "hair colour from representations of faces", "SimVAE (ICLR)"),
    (
        "simvae-iclr-figure-3-right",
        "SimVAEICLRFigure3Right",
        "what SimVAE gains for 20 attributes of faces",
        "SimVAE (ICLR)",
    ),
    ("simvae-iclr-text", "SimVAEICLRText", "gaps and gains that section 6 states", "SimVAE (ICLR)"),
    ("simvae-table-1", "SimVAETable1", "content by an MLP and by neighbours, nine methods, four datasets", "SimVAE"),
    ("simvae-table-5", "SimVAETable5", "content by a linear probe and by clusters, four datasets", "SimVAE"),
    ("simvae-table-6", "SimVAETable6", "ARI and NMI of a Gaussian mixture, four datasets", "SimVAE"),
    ("simvae-table-7", "SimVAETable7", "reconstruction error and FID of four VAEs, four datasets", "SimVAE"),
    ("simvae-figure-3", "SimVAEFigure3", "reconstructions of digits and clothes from six representations", "SimVAE"),
    ("simvae-figure-4", "SimVAEFigure4", "reconstructions of photographs and faces from six representations", "SimVAE"),
    ("simvae-figure-5", "SimVAEFigure5", "hair colour and gender from representations of faces", "SimVAE"),
    ("simvae-figure-6", "SimVAEFigure6", "20 attributes from representations of faces, and SimVAE's gains", "SimVAE"),
    ("simvae-figure-7", "SimVAEFigure7", "stronger crops and jitter on CIFAR-10", "SimVAE"),
    ("simvae-figure-8", "SimVAEFigure8", "SimVAE with 2 to 10 views, on MNIST and CIFAR-10", "SimVAE"),
    ("simvae-figure-9", "SimVAEFigure9", "SimVAE with other variances of the likelihood", "SimVAE"),
    ("simvae-figure-10", "SimVAEFigure10", "images of each class that SimVAE generates", "SimVAE"),
    ("simvae-text", "SimVAEText", "gaps and gains that section 7 states", "SimVAE"),
)

#: Studies of one run with published settings: name, class, summary and source.
RECIPES = (
    ("cifar10-speedrun", "CIFAR10Speedrun", "recipe: 90 % of CIFAR-10 without labels, on one GPU", "dkobak"),
    (
        "fashion-mnist-cpu",
        "FashionMNISTCPU",
        "recipe: Fashion-MNIST without labels in 10 minutes of processor time",
        "",
    ),
    ("simclr-cifar10", "SimCLRCIFAR10", "recipe: SimCLR on CIFAR-10, ResNet-18", "solo-learn"),
    ("byol-cifar10", "BYOLCIFAR10", "recipe: BYOL on CIFAR-10, ResNet-18", "solo-learn"),
    ("vicreg-cifar10", "VICRegCIFAR10", "recipe: VICReg on CIFAR-10, ResNet-18", "solo-learn"),
    ("barlow-twins-cifar10", "BarlowTwinsCIFAR10", "recipe: Barlow Twins on CIFAR-10, ResNet-18", "solo-learn"),
    ("swav-cifar10", "SwAVCIFAR10", "recipe: SwAV on CIFAR-10, ResNet-18", "solo-learn"),
    ("moco-v3-cifar10", "MoCoV3CIFAR10", "recipe: MoCo v3 on CIFAR-10, ResNet-18", "solo-learn"),
    ("dino-cifar10", "DINOCIFAR10", "recipe: DINO on CIFAR-10, ResNet-18", "solo-learn"),
    ("simclr-cifar100", "SimCLRCIFAR100", "recipe: SimCLR on CIFAR-100, ResNet-18", "solo-learn"),
    ("byol-cifar100", "BYOLCIFAR100", "recipe: BYOL on CIFAR-100, ResNet-18", "solo-learn"),
    ("vicreg-cifar100", "VICRegCIFAR100", "recipe: VICReg on CIFAR-100, ResNet-18", "solo-learn"),
    ("barlow-twins-cifar100", "BarlowTwinsCIFAR100", "recipe: Barlow Twins on CIFAR-100, ResNet-18", "solo-learn"),
    ("swav-cifar100", "SwAVCIFAR100", "recipe: SwAV on CIFAR-100, ResNet-18", "solo-learn"),
    ("moco-v3-cifar100", "MoCoV3CIFAR100", "recipe: MoCo v3 on CIFAR-100, ResNet-18", "solo-learn"),
    ("dino-cifar100", "DINOCIFAR100", "recipe: DINO on CIFAR-100, ResNet-18", "solo-learn"),
    ("lejepa-cifar10", "LeJEPACIFAR10", "recipe: LeJEPA on CIFAR-10, ResNet-18", "arXiv:2602.03604"),
    ("simclr-imagenette", "SimCLRImagenette", "recipe: SimCLR on Imagenette, ResNet-18", "lightly"),
    ("byol-imagenette", "BYOLImagenette", "recipe: BYOL on Imagenette, ResNet-18", "lightly"),
    ("vicreg-imagenette", "VICRegImagenette", "recipe: VICReg on Imagenette, ResNet-18", "lightly"),
    ("barlow-twins-imagenette", "BarlowTwinsImagenette", "recipe: Barlow Twins on Imagenette, ResNet-18", "lightly"),
    ("swav-imagenette", "SwAVImagenette", "recipe: SwAV on Imagenette, ResNet-18", "lightly"),
    ("dino-imagenette", "DINOImagenette", "recipe: DINO on Imagenette, ResNet-18", "lightly"),
    ("lejepa-imagenette", "LeJEPAImagenette", "recipe: LeJEPA on Imagenette, ViT-S/8", "arXiv:2511.08544"),
    ("simclr-imagenet100", "SimCLRImageNet100", "recipe: SimCLR on ImageNet-100, ResNet-18", "solo-learn"),
    ("byol-imagenet100", "BYOLImageNet100", "recipe: BYOL on ImageNet-100, ResNet-18", "solo-learn"),
    ("vicreg-imagenet100", "VICRegImageNet100", "recipe: VICReg on ImageNet-100, ResNet-18", "solo-learn"),
    (
        "barlow-twins-imagenet100",
        "BarlowTwinsImageNet100",
        "recipe: Barlow Twins on ImageNet-100, ResNet-18",
        "solo-learn",
    ),
    ("swav-imagenet100", "SwAVImageNet100", "recipe: SwAV on ImageNet-100, ResNet-18", "solo-learn"),
    ("moco-v3-imagenet100", "MoCoV3ImageNet100", "recipe: MoCo v3 on ImageNet-100, ResNet-18", "solo-learn"),
    ("dino-imagenet100", "DINOImageNet100", "recipe: DINO on ImageNet-100, ResNet-18", "solo-learn"),
    ("simvae-fashion-mnist", "SimVAEFashionMNIST", "recipe: SimVAE on Fashion-MNIST", "SimVAE (ICLR)"),
    ("gedi-cifar10", "GEDICIFAR10", "recipe: GEDI on CIFAR-10", "GEDI"),
    ("aasae-cifar10", "AASAECIFAR10", "recipe: AASAE on CIFAR-10", "AASAE"),
)


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield study("file", "sslx.core.study:Study", "a study in a file of its own, as ./FILE.toml", reads=".toml")
    for name, cls, summary, paper in _STUDIES:
        yield study(name, f"sslx.studies.papers:{cls}", summary=summary, paper=paper)
    for name, cls, summary, paper in RECIPES:
        yield study(name, f"sslx.studies.recipes:{cls}", summary=summary, paper=paper)
