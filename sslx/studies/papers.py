"""The studies of the papers. Their content is in the files beside this module."""

from sslx.api import Study


class GEDITable2(Study, file="gedi-table-2.toml"):
    """GEDI, Table 2: the ablations on moons and circles."""


class GEDITable3(Study, file="gedi-table-3.toml"):
    """GEDI, Table 3: GEDI and other methods on moons and circles."""


class GEDIFigure3(Study, file="gedi-figure-3.toml"):
    """GEDI, Figure 3: clusters without each of its terms."""


class GEDIFigure4(Study, file="gedi-figure-4.toml"):
    """GEDI, Figure 4: losses that reach their minima."""


class GEDIFigure5(Study, file="gedi-figure-5.toml"):
    """GEDI, Figure 5: clusters and densities of GEDI and other methods."""


class GEDIFigure8(Study, file="gedi-figure-8.toml"):
    """GEDI, Figure 8: sensitivity to the weights of the losses."""


class GEDITable4(Study, file="gedi-table-4.toml"):
    """GEDI, Table 4: clusters and samples on images."""


class GEDITable5(Study, file="gedi-table-5.toml"):
    """GEDI, Table 5: images of other datasets told from those of SVHN."""


class GEDITable6(Study, file="gedi-table-6.toml"):
    """GEDI, Table 6: digits learned from sums."""


class GEDITable10(Study, file="gedi-table-10.toml"):
    """GEDI, Table 10: linear probes on images."""


class GEDITable11(Study, file="gedi-table-11.toml"):
    """GEDI, Table 11: images of other datasets told from those of CIFAR-10."""


class GEDITable12(Study, file="gedi-table-12.toml"):
    """GEDI, Table 12: images of other datasets told from those of CIFAR-100."""


class GEDIFigure6(Study, file="gedi-figure-6.toml"):
    """GEDI, Figure 6: samples of methods trained on CIFAR-10."""


class GEDIFigure9(Study, file="gedi-figure-9.toml"):
    """GEDI, Figure 9: samples of methods trained on SVHN."""


class GEDIFigure10(Study, file="gedi-figure-10.toml"):
    """GEDI, Figure 10: samples of methods trained on CIFAR-100."""


class GEDIFigure11(Study, file="gedi-figure-11.toml"):
    """GEDI, Figure 11: the losses of the rule and of the agreement of views."""


class GEDIText(Study, file="gedi-text.toml"):
    """GEDI: gains in NMI that the abstract states."""


class AASAETable1Left(Study, file="aasae-table-1-left.toml"):
    """AASAE, Table 1 (left): linear evaluation of autoencoders."""


class AASAETable1Right(Study, file="aasae-table-1-right.toml"):
    """AASAE, Table 1 (right): linear evaluation of other methods on ImageNet."""


class AASAETable2(Study, file="aasae-table-2.toml"):
    """AASAE, Table 2: fine-tuning with few labels."""


class AASAETable3(Study, file="aasae-table-3.toml"):
    """AASAE, Table 3: transfer from ImageNet to other images."""


class AASAEFigure2(Study, file="aasae-figure-2.toml"):
    """AASAE, Figure 2: density estimation and representation over training."""


class AASAEFigure3(Study, file="aasae-figure-3.toml"):
    """AASAE, Figure 3: weights of a divergence from the prior."""


class AASAEFigure4a(Study, file="aasae-figure-4a.toml"):
    """AASAE, Figure 4a: sensitivity to the batch size."""


class AASAEFigure4b(Study, file="aasae-figure-4b.toml"):
    """AASAE, Figure 4b: sensitivity to the number of latent dimensions."""


class AASAEFigure4c(Study, file="aasae-figure-4c.toml"):
    """AASAE, Figure 4c: sensitivity to the decoder."""


class AASAEFigure4d(Study, file="aasae-figure-4d.toml"):
    """AASAE, Figure 4d: sensitivity to the variance of the likelihood."""


class AASAEFigure5(Study, file="aasae-figure-5.toml"):
    """AASAE, Figure 5: cosine similarities of representations."""


class SimVAEICLRTable1(Study, file="simvae-iclr-table-1.toml"):
    """SimVAE (ICLR), Table 1: content by four probes, on four datasets."""


class SimVAEICLRFigure1(Study, file="simvae-iclr-figure-1.toml"):
    """SimVAE (ICLR), Figure 1: reconstructions from representations of digits and clothes."""


class SimVAEICLRFigure3(Study, file="simvae-iclr-figure-3.toml"):
    """SimVAE (ICLR), Figure 3 (left): the hair colour by two probes."""


class SimVAEICLRFigure3Right(Study, file="simvae-iclr-figure-3-right.toml"):
    """SimVAE (ICLR), Figure 3 (right): what SimVAE gains over other methods for twenty attributes of faces."""


class SimVAEICLRText(Study, file="simvae-iclr-text.toml"):
    """SimVAE (ICLR), section 6: gaps and gains that the text states."""


class SimVAETable1(Study, file="simvae-table-1.toml"):
    """SimVAE (TMLR), Table 1: content by a probe with a hidden layer and by nearest neighbours."""


class SimVAETable5(Study, file="simvae-table-5.toml"):
    """SimVAE (TMLR), Table 5: content by a linear probe and by the clusters of a Gaussian mixture."""


class SimVAETable6(Study, file="simvae-table-6.toml"):
    """SimVAE (TMLR), Table 6: the clusters of a Gaussian mixture compared with the classes."""


class SimVAETable7(Study, file="simvae-table-7.toml"):
    """SimVAE (TMLR), Table 7: the reconstruction error and the FID of four VAEs."""


class SimVAEFigure3(Study, file="simvae-figure-3.toml"):
    """SimVAE (TMLR), Figure 3: reconstructions from representations of digits and clothes."""


class SimVAEFigure4(Study, file="simvae-figure-4.toml"):
    """SimVAE (TMLR), Figure 4: reconstructions from representations of photographs and faces."""


class SimVAEFigure5(Study, file="simvae-figure-5.toml"):
    """SimVAE (TMLR), Figure 5 (left, middle): hair colour and gender from representations of faces."""


class SimVAEFigure6(Study, file="simvae-figure-6.toml"):
    """SimVAE (TMLR), Figure 5 (right) and Figure 6: twenty attributes from representations of faces."""


class SimVAEFigure7(Study, file="simvae-figure-7.toml"):
    """SimVAE (TMLR), Figure 7: stronger crops and jitter on CIFAR-10."""


class SimVAEFigure8(Study, file="simvae-figure-8.toml"):
    """SimVAE (TMLR), Figure 8: two to ten views of each image."""


class SimVAEFigure9(Study, file="simvae-figure-9.toml"):
    """SimVAE (TMLR), Figure 9: other variances of the likelihood."""


class SimVAEFigure10(Study, file="simvae-figure-10.toml"):
    """SimVAE (TMLR), Figure 10: images of each class that SimVAE generates."""


class SimVAEText(Study, file="simvae-text.toml"):
    """SimVAE (TMLR), section 7: gaps and gains that the text states."""
