"""The built-in methods and their parts, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import (
    Record,
    constraint,
    decoder,
    encoder,
    energy,
    hookimpl,
    likelihood,
    method,
    objective,
    posterior,
    prior,
)


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.ssl_methods"
    yield method("random", f"{here}.random:Random", summary="the untrained encoder, the floor of every table")
    yield method("vae", "sslx.families.vae:VAE", summary="variational autoencoder", paper="arXiv:1312.6114")
    yield method("simvae", f"{here}.simvae:SimVAE", summary="VAE whose related views share a cluster", paper="SimVAE")
    yield method("beta-vae", f"{here}.beta_vae:BetaVAE", summary="VAE with a weight on the prior", paper="Higgins 2017")
    yield method(
        "cr-vae", f"{here}.cr_vae:CRVAE", summary="VAE, consistent under augmentation", paper="arXiv:2105.14859"
    )
    yield method(
        "aasae", f"{here}.aasae:AASAE", summary="noisy autoencoder of augmented views", paper="arXiv:2107.12329"
    )
    yield method("ae", "sslx.families.autoencoder:Autoencoder", summary="deterministic autoencoder")
    yield method("aaae", f"{here}.aaae:AAAE", summary="autoencoder that undoes augmentation", paper="AASAE")
    for name, target, summary, paper in (
        ("simclr", "simclr:SimCLR", "contrast of related views", "arXiv:2002.05709"),
        ("moco", "moco:MoCo", "contrast with a queue of a teacher's keys", "arXiv:1911.05722"),
        ("moco-v2", "moco_v2:MoCoV2", "moco with a deeper head", "arXiv:2003.04297"),
        ("proto-cpc", "proto_cpc:ProtoCPC", "contrast with prototypes", "ICLR 2022, Lee"),
        ("instance-discrimination", "instance_discrimination:InstanceDiscrimination", "every image is a class",
         "arXiv:1805.01978"),
        ("byol", "byol:BYOL", "prediction of a moving average", "arXiv:2006.07733"),
        ("simsiam", "simsiam:SimSiam", "prediction with a stopped gradient", "arXiv:2011.10566"),
        ("vicreg", "vicreg:VICReg", "variance, invariance, covariance", "arXiv:2105.04906"),
        ("barlow-twins", "barlow_twins:BarlowTwins", "the identity as correlation matrix", "arXiv:2103.03230"),
        ("w-mse", "w_mse:WMSE", "agreement after whitening", "arXiv:2007.06346"),
        ("cor-info-max", "cor_info_max:CorInfoMax", "agreement at the largest volume", "arXiv:2209.07999"),
        ("swav", "swav:SwAV", "prediction of balanced clusters", "arXiv:2006.09882"),
        ("dino", "dino:DINO", "prediction of a teacher's sharpened clusters", "arXiv:2104.14294"),
        ("deep-cluster", "deep_cluster:DeepCluster", "prediction of k-means clusters", "arXiv:1807.05520"),
        ("sela", "sela:SeLA", "prediction of an optimal transport", "arXiv:1911.05371"),
        ("gedi", "gedi:GEDI", "clusters and a density from the same logits", "GEDI"),
        ("gedi-no-gen", "gedi_ablations:NoGen", "gedi without its energy", "GEDI"),
        ("gedi-no-inv", "gedi_ablations:NoInv", "gedi whose views need not agree", "GEDI"),
        ("gedi-no-prior", "gedi_ablations:NoPrior", "gedi whose clusters may be empty", "GEDI"),
        ("gedi-two-stage", "gedi_two_stage:TwoStage", "the energy of gedi first, then its clusters (our reading)",
         "GEDI"),
        ("nesy", "nesy:NeSy", "classes that obey a rule, and nothing else", "GEDI"),
        ("jem", "jem:JEM", "the energy of gedi alone", "arXiv:1912.03263"),
        ("ebclr", "ebclr:EBCLR", "contrast and an energy of the same distances", "Kim & Ye 2022"),
        ("rotation", "rotation:Rotation", "by which angle was it turned?", "arXiv:1803.07728"),
        ("jigsaw", "jigsaw:Jigsaw", "how were its tiles permuted?", "arXiv:1603.09246"),
        ("colorization", "colorization:Colorization", "which colours has a grey image?", "arXiv:1603.08511"),
    ):  # fmt: skip
        yield method(name, f"{here}.{target}", summary=summary, paper=paper)

    yield encoder("mlp", f"{here}.networks.mlp:MLPEncoder", summary="fully connected (SimVAE, Table 3)")
    yield decoder("mlp", f"{here}.networks.mlp:MLPDecoder", summary="fully connected (SimVAE, Table 3)")
    yield encoder("cnn", f"{here}.networks.cnn:CNNEncoder", summary="LeNet-like, for small images")
    yield encoder("resnet18-small", f"{here}.networks.simvae_resnet:SmallResNetEncoder", summary="SimVAE, Table 4")
    yield decoder("resnet18-small", f"{here}.networks.simvae_resnet:SmallResNetDecoder", summary="SimVAE, Table 4")
    yield encoder("resnet8", f"{here}.networks.gedi_resnet:ResNet8Encoder", summary="GEDI, Table 8: no normalisation")
    for depth in (18, 34, 50):
        name, cls = f"resnet{depth}", f"{here}.networks.resnet:ResNet{depth}"
        yield encoder(name, f"{cls}Encoder", summary="ResNet with stems for small images", paper="arXiv:1512.03385")
        yield decoder(name, f"{cls}Decoder", summary="the same backwards, not normalised", paper="AASAE")
    yield encoder("timm", f"{here}.networks.timm:TimmEncoder", summary="any model of timm: timm:resnet18")

    yield posterior(
        "gaussian", f"{here}.parts.posteriors:GaussianPosterior", summary="diagonal normal, both moments learned"
    )
    yield posterior("delta", f"{here}.parts.posteriors:DeltaPosterior", summary="a point: a deterministic encoder")
    yield likelihood(
        "gaussian",
        f"{here}.parts.likelihoods:GaussianLikelihood",
        summary="squared error, its variance fixed or learned",
    )
    yield likelihood(
        "bernoulli", f"{here}.parts.likelihoods:BernoulliLikelihood", summary="binary cross-entropy per pixel"
    )

    yield prior("standard-normal", f"{here}.parts.priors:StandardNormal", summary="N(0, I), views independent")
    yield prior(
        "shared-mean", f"{here}.parts.priors:SharedMean", summary="one mean a set, flat density", paper="SimVAE"
    )
    yield prior(
        "gaussian-mean", f"{here}.parts.priors:GaussianMean", summary="one mean a set, normal density", paper="SimVAE"
    )
    yield prior("mixture", f"{here}.parts.priors:Mixture", summary="one of K learned clusters a set", paper="SimVAE")

    for name, target, summary in (
        ("info-nce", "parts.objectives:InfoNCE", "contrast within the batch"),
        ("distance-nce", "ebclr:DistanceNCE", "contrast of distances within the batch"),
        ("queue-nce", "moco:QueueNCE", "contrast with a queue"),
        ("cosine", "parts.objectives:Cosine", "agreement in direction; needs a teacher or a stopped gradient"),
        ("vicreg", "vicreg:VICRegLoss", "variance, invariance, covariance"),
        ("barlow-twins", "barlow_twins:BarlowTwinsLoss", "the identity as correlation matrix"),
        ("w-mse", "w_mse:WhitenedMSE", "agreement after whitening"),
        ("cor-info-max", "cor_info_max:CorInfoMaxLoss", "agreement at the largest volume"),
        ("swav", "swav:SwAVLoss", "scores: balanced assignments of other views"),
        ("dino", "dino:DINOLoss", "scores: centred, sharpened assignments"),
        ("proto-cpc", "proto_cpc:ProtoCPCLoss", "scores: contrast with prototypes"),
    ):
        yield objective(name, f"{here}.{target}", summary=summary)

    yield energy(
        "sgld", f"{here}.parts.sgld:SGLD", summary="contrastive divergence with persistent chains", paper="GEDI"
    )

    rules = f"{here}.constraints"
    yield constraint(
        "addition", f"{rules}.named:Addition", summary="of three digits the third is the sum", paper="GEDI"
    )
    yield constraint("equal", f"{rules}.named:Equal", summary="all images of a set are of one class")
    yield constraint(
        "problog", f"{rules}.problog:ProbLog", summary="./rules.pl, written for ProbLog (extra nesy)", reads=".pl"
    )
