"""The built-in evaluators, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, evaluator, hookimpl


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.evaluators"
    yield evaluator("knn", f"{here}.knn:KNN", summary="nearest neighbours, exact search by FAISS")
    yield evaluator("linear", f"{here}.linear:Linear", summary="logistic regression on frozen features")
    yield evaluator("mlp", f"{here}.mlp:MLP", summary="a classifier with one hidden layer on frozen features")
    yield evaluator("gmm", f"{here}.clustering:Mixture", summary="a Gaussian mixture's clusters against the classes")
    yield evaluator("cluster", f"{here}.clustering:Cluster", summary="the method's own clusters against the classes")
    yield evaluator("ood", f"{here}.ood:OOD", summary="are images of another dataset told apart by the density?")
    yield evaluator("samples", f"{here}.samples:SampleDistance", summary="distance of drawn images from real ones")
    yield evaluator("style", f"{here}.style:Style", summary="known factors of the images from frozen features")
    yield evaluator("reconstruction", f"{here}.reconstruction:Reconstruction", summary="error of decoded test images")
    yield evaluator("geometry", f"{here}.geometry:Geometry", summary="rank, alignment, uniformity, dead dimensions")
