"""The recipes: studies of one run, with published settings. Their content is in the files beside this module."""

from sslx.api import Study


class CIFAR10Speedrun(Study, file="cifar10-speedrun.toml"):
    """The speed run: SimCLR on CIFAR-10 until nearest neighbours classify 90 % of the test images."""


class FashionMNISTCPU(Study, file="fashion-mnist-cpu.toml"):
    """The speed run for processors: SimCLR on Fashion-MNIST."""


class SimCLRCIFAR10(Study, file="simclr-cifar10.toml"):
    """SimCLR on CIFAR-10, as solo-learn trains it."""


class BYOLCIFAR10(Study, file="byol-cifar10.toml"):
    """BYOL on CIFAR-10, as solo-learn trains it."""


class VICRegCIFAR10(Study, file="vicreg-cifar10.toml"):
    """VICReg on CIFAR-10, as solo-learn trains it."""


class BarlowTwinsCIFAR10(Study, file="barlow-twins-cifar10.toml"):
    """Barlow Twins on CIFAR-10, as solo-learn trains it."""


class SwAVCIFAR10(Study, file="swav-cifar10.toml"):
    """SwAV on CIFAR-10, as solo-learn trains it."""


class MoCoV3CIFAR10(Study, file="moco-v3-cifar10.toml"):
    """MoCo v3 on CIFAR-10, as solo-learn trains it."""


class DINOCIFAR10(Study, file="dino-cifar10.toml"):
    """DINO on CIFAR-10, as solo-learn trains it."""


class SimCLRCIFAR100(Study, file="simclr-cifar100.toml"):
    """SimCLR on CIFAR-100, as solo-learn trains it."""


class BYOLCIFAR100(Study, file="byol-cifar100.toml"):
    """BYOL on CIFAR-100, as solo-learn trains it."""


class VICRegCIFAR100(Study, file="vicreg-cifar100.toml"):
    """VICReg on CIFAR-100, as solo-learn trains it."""


class BarlowTwinsCIFAR100(Study, file="barlow-twins-cifar100.toml"):
    """Barlow Twins on CIFAR-100, as solo-learn trains it."""


class SwAVCIFAR100(Study, file="swav-cifar100.toml"):
    """SwAV on CIFAR-100, as solo-learn trains it."""


class MoCoV3CIFAR100(Study, file="moco-v3-cifar100.toml"):
    """MoCo v3 on CIFAR-100, as solo-learn trains it."""


class DINOCIFAR100(Study, file="dino-cifar100.toml"):
    """DINO on CIFAR-100, as solo-learn trains it."""


class LeJEPACIFAR10(Study, file="lejepa-cifar10.toml"):
    """LeJEPA on CIFAR-10, as eb_jepa trains it."""


class SimCLRImagenette(Study, file="simclr-imagenette.toml"):
    """SimCLR on Imagenette, as lightly trains it."""


class BYOLImagenette(Study, file="byol-imagenette.toml"):
    """BYOL on Imagenette, as lightly trains it."""


class VICRegImagenette(Study, file="vicreg-imagenette.toml"):
    """VICReg on Imagenette, as lightly trains it."""


class BarlowTwinsImagenette(Study, file="barlow-twins-imagenette.toml"):
    """Barlow Twins on Imagenette, as lightly trains it."""


class SwAVImagenette(Study, file="swav-imagenette.toml"):
    """SwAV on Imagenette, as lightly trains it."""


class DINOImagenette(Study, file="dino-imagenette.toml"):
    """DINO on Imagenette, as lightly trains it."""


class LeJEPAImagenette(Study, file="lejepa-imagenette.toml"):
    """LeJEPA on Imagenette, as in its authors' example."""


class SimCLRImageNet100(Study, file="simclr-imagenet100.toml"):
    """SimCLR on ImageNet-100, as solo-learn trains it."""


class BYOLImageNet100(Study, file="byol-imagenet100.toml"):
    """BYOL on ImageNet-100, as solo-learn trains it."""


class VICRegImageNet100(Study, file="vicreg-imagenet100.toml"):
    """VICReg on ImageNet-100, as solo-learn trains it."""


class BarlowTwinsImageNet100(Study, file="barlow-twins-imagenet100.toml"):
    """Barlow Twins on ImageNet-100, as solo-learn trains it."""


class SwAVImageNet100(Study, file="swav-imagenet100.toml"):
    """SwAV on ImageNet-100, as solo-learn trains it."""


class MoCoV3ImageNet100(Study, file="moco-v3-imagenet100.toml"):
    """MoCo v3 on ImageNet-100, as solo-learn trains it."""


class DINOImageNet100(Study, file="dino-imagenet100.toml"):
    """DINO on ImageNet-100, as solo-learn trains it."""


class SimVAEFashionMNIST(Study, file="simvae-fashion-mnist.toml"):
    """SimVAE on Fashion-MNIST, a run of its Table 1."""


class GEDICIFAR10(Study, file="gedi-cifar10.toml"):
    """GEDI on CIFAR-10, a run of its Table 4."""


class AASAECIFAR10(Study, file="aasae-cifar10.toml"):
    """AASAE on CIFAR-10, a run of its Table 1."""
