"""The built-in methods and their parts, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, constraint, decoder, encoder, hookimpl, likelihood, method, objective, posterior, prior


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.ssl_methods"
    yield method("random", f"{here}.random:Random", summary="the untrained encoder, the floor of every table")
    yield method("vae", f"{here}.vae:VAE", summary="variational autoencoder", paper="arXiv:1312.6114")
    yield method("simvae", f"{here}.simvae:SimVAE", summary="VAE whose related views share a cluster", paper="SimVAE")
    yield method("simclr", f"{here}.simclr:SimCLR", summary="contrast of related views", paper="arXiv:2002.05709")
    yield method("nesy", f"{here}.nesy:NeSy", summary="classes that obey a rule", paper="GEDI")

    yield encoder("mlp", f"{here}.networks.mlp:MLPEncoder", summary="fully connected (SimVAE, Table 3)")
    yield decoder("mlp", f"{here}.networks.mlp:MLPDecoder", summary="fully connected (SimVAE, Table 3)")
    yield encoder("cnn", f"{here}.networks.cnn:CNNEncoder", summary="LeNet-like, for small images")
    yield encoder("resnet18-small", f"{here}.networks.resnet:SmallResNetEncoder", summary="SimVAE, Table 4")
    yield decoder("resnet18-small", f"{here}.networks.resnet:SmallResNetDecoder", summary="SimVAE, Table 4")
    yield encoder("timm", f"{here}.networks.timm:TimmEncoder", summary="any model of timm: timm:resnet18")

    yield posterior("gaussian", f"{here}.heads:GaussianPosterior", summary="diagonal normal, both moments learned")
    yield posterior("delta", f"{here}.heads:DeltaPosterior", summary="a point: a deterministic encoder")
    yield likelihood("gaussian", f"{here}.heads:GaussianLikelihood", summary="squared error with a fixed variance")
    yield likelihood("bernoulli", f"{here}.heads:BernoulliLikelihood", summary="binary cross-entropy per pixel")

    yield prior("standard-normal", f"{here}.priors:StandardNormal", summary="N(0, I), views independent")
    yield prior("shared-mean", f"{here}.priors:SharedMean", summary="one mean a set, flat density", paper="SimVAE")
    yield prior(
        "gaussian-mean", f"{here}.priors:GaussianMean", summary="one mean a set, normal density", paper="SimVAE"
    )
    yield prior("mixture", f"{here}.priors:Mixture", summary="one of K learned clusters a set", paper="SimVAE")

    yield objective("info-nce", f"{here}.objectives:InfoNCE", summary="contrastive", paper="arXiv:2002.05709")

    rules = f"{here}.constraints"
    yield constraint(
        "addition", f"{rules}.named:Addition", summary="of three digits the third is the sum", paper="GEDI"
    )
    yield constraint("equal", f"{rules}.named:Equal", summary="all images of a set are of one class")
    yield constraint(
        "problog", f"{rules}.problog:ProbLog", summary="./rules.pl, written for ProbLog (extra nesy)", reads=".pl"
    )
