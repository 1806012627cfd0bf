"""The built-in methods and their parts, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, decoder, encoder, hookimpl, likelihood, method, objective, posterior, prior


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.ssl_methods"
    yield method("random", f"{here}.random:Random", summary="the untrained encoder, the floor of every table")
    yield method("vae", f"{here}.vae:VAE", summary="variational autoencoder", paper="arXiv:1312.6114")
    yield method("simvae", f"{here}.simvae:SimVAE", summary="VAE whose related views share a cluster", paper="SimVAE")
    yield method("beta-vae", f"{here}.vae:BetaVAE", summary="VAE with a weight on the prior", paper="Higgins 2017")
    yield method(
        "cr-vae", f"{here}.cr_vae:CRVAE", summary="VAE, consistent under augmentation", paper="arXiv:2105.14859"
    )
    yield method("aasae", f"{here}.vae:AASAE", summary="noisy autoencoder of augmented views", paper="arXiv:2107.12329")
    yield method("ae", f"{here}.autoencoder:Autoencoder", summary="deterministic autoencoder")
    yield method("aaae", f"{here}.autoencoder:AAAE", summary="autoencoder that undoes augmentation", paper="AASAE")
    yield method("simclr", f"{here}.simclr:SimCLR", summary="contrast of related views", paper="arXiv:2002.05709")

    yield encoder("mlp", f"{here}.networks.mlp:MLPEncoder", summary="fully connected (SimVAE, Table 3)")
    yield decoder("mlp", f"{here}.networks.mlp:MLPDecoder", summary="fully connected (SimVAE, Table 3)")
    yield encoder("resnet18-small", f"{here}.networks.resnet:SmallResNetEncoder", summary="SimVAE, Table 4")
    yield decoder("resnet18-small", f"{here}.networks.resnet:SmallResNetDecoder", summary="SimVAE, Table 4")
    for depth in (18, 34, 50):
        name, cls = f"resnet{depth}", f"{here}.networks.resnets:ResNet{depth}"
        yield encoder(name, f"{cls}Encoder", summary="ResNet with stems for small images", paper="arXiv:1512.03385")
        yield decoder(name, f"{cls}Decoder", summary="the same backwards, not normalised", paper="AASAE")
    yield encoder("timm", f"{here}.networks.timm:TimmEncoder", summary="any model of timm: timm:resnet18")

    yield posterior("gaussian", f"{here}.heads:GaussianPosterior", summary="diagonal normal, both moments learned")
    yield posterior("delta", f"{here}.heads:DeltaPosterior", summary="a point: a deterministic encoder")
    yield likelihood(
        "gaussian", f"{here}.heads:GaussianLikelihood", summary="squared error, its variance fixed or learned"
    )
    yield likelihood("bernoulli", f"{here}.heads:BernoulliLikelihood", summary="binary cross-entropy per pixel")

    yield prior("standard-normal", f"{here}.priors:StandardNormal", summary="N(0, I), views independent")
    yield prior("shared-mean", f"{here}.priors:SharedMean", summary="one mean a set, flat density", paper="SimVAE")
    yield prior(
        "gaussian-mean", f"{here}.priors:GaussianMean", summary="one mean a set, normal density", paper="SimVAE"
    )
    yield prior("mixture", f"{here}.priors:Mixture", summary="one of K learned clusters a set", paper="SimVAE")

    yield objective("info-nce", f"{here}.objectives:InfoNCE", summary="contrastive", paper="arXiv:2002.05709")
