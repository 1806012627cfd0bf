"""The built-in evaluators, which score frozen representations and trained methods. They are a plugin themselves."""

from collections.abc import Iterator

from sslx.api import Record, evaluator, hookimpl


@hookimpl
def sslx_components() -> Iterator[Record]:
    here = "sslx.evaluators"
    yield evaluator("knn", f"{here}.knn:KNN", summary="accuracy of nearest neighbours, found by exact search")
    yield evaluator("linear", f"{here}.linear:Linear", summary="logistic regression on frozen features")
    yield evaluator("mlp", f"{here}.mlp:MLP", summary="a classifier with one hidden layer on frozen features")
    yield evaluator("probe", f"{here}.probe:Probe", summary="linear and MLP probes, trained as papers train them")
    yield evaluator(
        "finetune", f"{here}.finetune:Finetune", summary="the whole network, trained with all or few labels"
    )
    yield evaluator("gmm", f"{here}.gmm:Mixture", summary="a Gaussian mixture's clusters compared with the classes")
    yield evaluator("cluster", f"{here}.cluster:Cluster", summary="the method's own clusters compared with the classes")
    yield evaluator("ood", f"{here}.ood:OOD", summary="telling images of another dataset apart by the method's density")
    yield evaluator("samples", f"{here}.samples:SampleDistance", summary="distance between drawn images and real ones")
    yield evaluator("fid", f"{here}.fid:FID", summary="FID, KID, precision and recall of drawn images (extra fid)")
    yield evaluator("style", f"{here}.style:Style", summary="known factors of the images, read from frozen features")
    yield evaluator("reconstruction", f"{here}.reconstruction:Reconstruction", summary="error of decoded test images")
    yield evaluator("geometry", f"{here}.geometry:Geometry", summary="rank, alignment, uniformity, dead dimensions")
    yield evaluator("similarity", f"{here}.similarity:Similarity", summary="cosine similarities of images and classes")
    yield evaluator(
        "posterior", f"{here}.posterior:PosteriorCollapse", summary="latent dimensions that ignore the image"
    )
