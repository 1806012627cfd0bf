"""The built-in methods and their parts, a plugin like any other; `vae` and `ae` are families that plugins extend."""

from collections.abc import Iterator

from sslx.api import Record, hookimpl

_RECORDS = {
    "method": (
        ("random", "random:Random", "the untrained encoder, the baseline of every table"),
        ("simvae", "simvae:SimVAE", "VAE whose related views share a cluster", "SimVAE"),
        ("beta-vae", "beta_vae:BetaVAE", "VAE with a larger weight on the prior", "Higgins 2017"),
        ("cr-vae", "cr_vae:CRVAE", "VAE whose posterior is consistent under augmentation", "arXiv:2105.14859"),
        ("aasae", "aasae:AASAE", "noisy autoencoder of augmented views", "arXiv:2107.12329"),
        ("aaae", "aaae:AAAE", "autoencoder that undoes augmentation", "AASAE"),
        ("simclr", "simclr:SimCLR", "contrast of related views with all others", "arXiv:2002.05709"),
        ("moco", "moco:MoCo", "contrast with a queue of a teacher's embeddings", "arXiv:1911.05722"),
        ("moco-v2", "moco_v2:MoCoV2", "MoCo with a deeper projection head", "arXiv:2003.04297"),
        ("moco-v3", "moco_v3:MoCoV3", "contrast with a teacher's embeddings of the batch", "arXiv:2104.02057"),
        ("dcl", "dcl:DCL", "contrast with other images only, for small batches", "arXiv:2110.06848"),
        ("nnclr", "nnclr:NNCLR", "contrast with nearest neighbours of the image", "arXiv:2104.14548"),
        ("proto-cpc", "proto_cpc:ProtoCPC", "contrast with learned prototypes", "ICLR 2022, Lee"),
        ("instance-discrimination", "instance_discrimination:InstanceDiscrimination",
         "classification in which every image is a class", "arXiv:1805.01978"),
        ("byol", "byol:BYOL", "prediction of a moving average's embeddings", "arXiv:2006.07733"),
        ("simsiam", "simsiam:SimSiam", "prediction of another view, with a stopped gradient", "arXiv:2011.10566"),
        ("vicreg", "vicreg:VICReg", "variance, invariance and covariance of embeddings", "arXiv:2105.04906"),
        ("barlow-twins", "barlow_twins:BarlowTwins", "embeddings decorrelated across dimensions", "arXiv:2103.03230"),
        ("w-mse", "w_mse:WMSE", "agreement of whitened embeddings", "arXiv:2007.06346"),
        ("cor-info-max", "cor_info_max:CorInfoMax", "agreement of embeddings that fill space", "arXiv:2209.07999"),
        ("emp-ssl", "emp_ssl:EMPSSL", "agreement of many patches that fill space", "arXiv:2304.03977"),
        ("lejepa", "lejepa:LeJEPA", "agreement of normally distributed embeddings", "arXiv:2511.08544"),
        ("swav", "swav:SwAV", "prediction of balanced clusters", "arXiv:2006.09882"),
        ("dino", "dino:DINO", "prediction of a teacher's sharpened clusters", "arXiv:2104.14294"),
        ("deep-cluster", "deep_cluster:DeepCluster", "prediction of k-means clusters", "arXiv:1807.05520"),
        ("sela", "sela:SeLA", "prediction of equally large clusters, by optimal transport", "arXiv:1911.05371"),
        ("gedi", "gedi:GEDI", "clusters and a density from the same logits", "GEDI"),
        ("gedi-no-gen", "gedi_ablations:NoGen", "GEDI without its energy", "GEDI"),
        ("gedi-no-inv", "gedi_ablations:NoInv", "GEDI whose views need not agree", "GEDI"),
        ("gedi-no-prior", "gedi_ablations:NoPrior", "GEDI whose clusters may be empty", "GEDI"),
        ("gedi-two-stage", "gedi_two_stage:TwoStage", "GEDI that learns its density first, then clusters", "GEDI"),
        ("nesy", "nesy:NeSy", "classes learned from a rule alone", "GEDI"),
        ("jem", "jem:JEM", "the energy of GEDI alone", "arXiv:1912.03263"),
        ("ebclr", "ebclr:EBCLR", "contrast and an energy from the same distances", "Kim & Ye 2022"),
        ("mae", "mae:MAE", "reconstruction of patches that were hidden", "arXiv:2111.06377"),
        ("ibot", "ibot:IBOT", "agreement with a teacher on views and on hidden patches", "arXiv:2111.07832"),
        ("i-jepa", "i_jepa:IJEPA", "prediction of a teacher's tokens of hidden blocks", "arXiv:2301.08243"),
        ("rotation", "rotation:Rotation", "prediction of the angle of a rotated image", "arXiv:1803.07728"),
        ("jigsaw", "jigsaw:Jigsaw", "prediction of how an image's tiles were permuted", "arXiv:1603.09246"),
        ("colorization", "colorization:Colorization", "prediction of a grey image's colours", "arXiv:1603.08511"),
    ),
    "encoder": (
        ("mlp", "networks.mlp:MLPEncoder", "fully connected layers (SimVAE, Table 3)"),
        ("cnn", "networks.cnn:CNNEncoder", "convolutions as in LeNet, for small images"),
        ("resnet18-small", "networks.simvae_resnet:SmallResNetEncoder", "a narrow ResNet (SimVAE, Table 4)"),
        ("resnet8", "networks.gedi_resnet:ResNet8Encoder", "a ResNet without normalization (GEDI, Table 8)"),
        ("resnet18", "networks.resnet:ResNet18Encoder", "ResNet with stems for small images", "arXiv:1512.03385"),
        ("resnet34", "networks.resnet:ResNet34Encoder", "ResNet with stems for small images", "arXiv:1512.03385"),
        ("resnet50", "networks.resnet:ResNet50Encoder", "ResNet with stems for small images", "arXiv:1512.03385"),
        ("vit", "networks.vit:ViTEncoder", "vision transformer for images and patches of any size", "arXiv:2010.11929"),
        ("timm", "networks.timm:TimmEncoder", "any model of timm, as timm:resnet18"),
        ("pixels", "networks.pixels:PixelsEncoder", "the pixels themselves, a baseline of tables"),
        ("pca", "networks.pixels:PCAEncoder", "principal components of the pixels, a baseline of tables"),
    ),
    "decoder": (
        ("mlp", "networks.mlp:MLPDecoder", "fully connected layers (SimVAE, Table 3)"),
        ("resnet18-small", "networks.simvae_resnet:SmallResNetDecoder", "a narrow ResNet (SimVAE, Table 4)"),
        ("resnet18", "networks.resnet:ResNet18Decoder", "a reversed ResNet without normalization", "AASAE"),
        ("resnet34", "networks.resnet:ResNet34Decoder", "a reversed ResNet without normalization", "AASAE"),
        ("resnet50", "networks.resnet:ResNet50Decoder", "a reversed ResNet without normalization", "AASAE"),
    ),
    "posterior": (
        ("gaussian", "parts.posteriors:GaussianPosterior", "diagonal normal with learned mean and variance"),
        ("tamed-gaussian", "parts.posteriors:TamedGaussianPosterior", "gaussian with a variance that stays finite"),
        ("delta", "parts.posteriors:DeltaPosterior", "a point, as of a deterministic encoder"),
    ),
    "likelihood": (
        ("gaussian", "parts.likelihoods:GaussianLikelihood", "squared error with a fixed or learned variance"),
        ("bernoulli", "parts.likelihoods:BernoulliLikelihood", "binary cross-entropy of each pixel"),
    ),
    "prior": (
        ("standard-normal", "parts.priors:StandardNormal", "N(0, I), with independent views"),
        ("shared-mean", "parts.priors:SharedMean", "related views share a mean of flat density", "SimVAE"),
        ("gaussian-mean", "parts.priors:GaussianMean", "related views share a mean of normal density", "SimVAE"),
        ("mixture", "parts.priors:Mixture", "related views share one of K learned clusters", "SimVAE"),
        ("hierarchical", "parts.priors:Hierarchical", "views around the mean of an image, images in K clusters"),
        ("vamp", "parts.priors:Vamp", "related views share one of K learned pseudo-inputs"),
    ),
    "objective": (
        ("info-nce", "parts.objectives:InfoNCE", "contrast within the batch"),
        ("distance-nce", "ebclr:DistanceNCE", "contrast of distances within the batch"),
        ("queue-nce", "moco:QueueNCE", "contrast with a queue"),
        ("key-nce", "moco_v3:KeyNCE", "contrast with another view of the batch"),
        ("neighbour-nce", "nnclr:NeighbourNCE", "contrast with nearest neighbours from a queue"),
        ("dcl", "dcl:DecoupledNCE", "contrast with other images only"),
        ("cosine", "parts.objectives:Cosine", "agreement in direction; needs a teacher or a stopped gradient"),
        ("vicreg", "vicreg:VICRegLoss", "variance, invariance and covariance of embeddings"),
        ("barlow-twins", "barlow_twins:BarlowTwinsLoss", "embeddings decorrelated across dimensions"),
        ("w-mse", "w_mse:WhitenedMSE", "agreement of whitened embeddings"),
        ("cor-info-max", "cor_info_max:CorInfoMaxLoss", "agreement of embeddings that fill space"),
        ("coding-rate", "emp_ssl:CodingRate", "agreement of embeddings with a large coding rate"),
        ("sigreg", "lejepa:SIGReg", "agreement of normally distributed embeddings"),
        ("swav", "swav:SwAVLoss", "prediction of another view's balanced cluster, on scores"),
        ("dino", "dino:DINOLoss", "prediction of centred, sharpened clusters, on scores"),
        ("proto-cpc", "proto_cpc:ProtoCPCLoss", "contrast with prototypes, on scores"),
    ),
    "energy": (("sgld", "parts.sgld:SGLD", "contrastive divergence with persistent chains", "GEDI"),),
    "constraint": (
        ("addition", "constraints.named:Addition", "the third of three digits is the sum of the others", "GEDI"),
        ("equal", "constraints.named:Equal", "all images of a set have the same class"),
        ("problog", "constraints.problog:ProbLog", "a file of ProbLog rules: ./rules.pl (extra nesy)", "", ".pl"),
    ),
}  # fmt: skip


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield Record(
        "method", "vae", "sslx.families.vae:VAE", "variational autoencoder with a normal prior", "arXiv:1312.6114"
    )
    yield Record("method", "ae", "sslx.families.autoencoder:Autoencoder", "autoencoder without noise or a prior")
    for kind, records in _RECORDS.items():
        for name, target, *facts in records:
            yield Record(kind, name, f"sslx.ssl_methods.{target}", *facts)
