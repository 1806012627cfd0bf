"""Fréchet and kernel distance, precision and recall of drawn images, in features that the user names."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from sslx.api import (
    ConfigError,
    DataError,
    Evaluation,
    PluginError,
    Result,
    Run,
    Split,
    Use,
    option,
    permutation,
    pixels,
)
from sslx.evaluators.ood import like
from sslx.evaluators.samples import Draws

_BATCH = 64  # images that a network takes at a time
_SUBSET = 1000  # images in each of the subsets of KID, as torch-fidelity has them
_WHOLE = 10_000  # images up to which all distances of precision and recall are kept in memory
_KNOWN = "inception, timm:NAME, pixels or the folder of a run"
_GRID = 8  # pixels of height and width to which images are averaged for the features `pixels`

Extract = Callable[[Tensor], Tensor]  # (B, C, H, W) uint8 on the CPU -> features (B, D) on any device


class FID(Draws, images=10_000):
    """Fréchet distance (FID), kernel distance (KID), precision and recall of drawn images, by torch-fidelity.

    Values can be compared only if they are of the same features and about the same number of images. The features are

        inception: the 2048 pooled ones of torch-fidelity's Inception v3, as in published values of FID.
        timm:NAME: the pooled ones of a timm model with its own preprocessing.
        pixels: the means of the pixels in a grid of 8 x 8, without a network, to try commands.
        PATH: those of the trained encoder in the folder of a run; nothing of that folder is executed.

    Drawn images are rounded to 256 levels.

    Scores:
        fid: ‖μ - m‖² + tr(Σ + S - 2(ΣS)^½) for the means and covariances of both sets (Heusel et al. 2017).
        kid: the squared maximum mean discrepancy for the kernel (x·y/D + 1)³, unbiased, so that it can be below 0; the
            mean over 100 subsets of at most 1000 images (Bińkowski et al. 2018).
        precision: the share of drawn images that are within the real ones, by balls to the third nearest neighbour.
        recall: the share of real images that are within the drawn ones (Kynkäänniemi et al. 2019).
        fid-of-training: the FID of as many training images, which is that of perfect samples.
    """

    features: str | None = option(
        default=None, help="Features that are compared: inception, timm:NAME, pixels or a run."
    )
    weights: Path | None = option(
        default=None, help="File with the weights of Inception or of the timm model; none: they are downloaded."
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.features not in (None, "inception", "pixels") and not self.features.startswith("timm:"):
            self.features = str(Path(self.features).expanduser().absolute())  # the same from any folder
            if self.weights is not None:
                raise ConfigError(f"weights: those of features={self.features} are in its folder, expected none")
        if self.weights is not None:
            self.weights = self.weights.expanduser().absolute()

    def skip(self, evaluation: Evaluation) -> str:
        if evaluation.data[0].images.dtype.is_floating_point:
            return "the dataset has no images"
        if reason := super().skip(evaluation):
            return reason
        return "" if self.features else f"name the features with --set evaluators.fid.features=NAME: {_KNOWN}"

    @torch.no_grad()
    def evaluate(self, evaluation: Evaluation) -> Result:
        try:
            import torch_fidelity
        except ImportError as error:
            raise PluginError('FID needs the extra `fid`: pip install "sslx[fid]"') from error
        network, extract = self._features(evaluation)
        real, other = self.halves(evaluation)
        n = min(self.images, len(real))

        def batches(split: Split) -> Iterator[Tensor]:
            for index in permutation(len(split), Use.EVALUATION, evaluation.seed)[:n].split(_BATCH):
                evaluation.heed()
                yield split.images[index]

        def of(split: Split) -> Tensor:
            return _all(extract, batches(split))

        drawn = (x.clamp(0, 1).mul(255).round().byte() for x in self.drawn(evaluation, n))
        x, y = _all(extract, (part for each in drawn for part in each.split(_BATCH))), of(real)
        scores, facts = compared(x, y)
        if len(other) >= n:
            scores[f"fid-of-{self.other()}"] = fid(of(other), y)
        D, how = x.shape[1], self.how(evaluation)
        short = f"; {n} images cannot give a covariance of rank {D}, so that FID is too large" if n <= D else ""
        return Result(
            scores=scores,
            protocol={
                "images": n,
                "against": self.against,
                "drawn_by": how,
                "features": self.features,
                "dimensions": D,
                "weights_sha256": _digest(network),
                "torch_fidelity": torch_fidelity.__version__,
                **facts,
            },
            summary=f"distances of {n} images drawn by {how} from {n} {self.against} images in {D} features of "
            f"{self.features}{short}",
            pictures=self.pictures(evaluation),
        )

    def _features(self, evaluation: Evaluation) -> tuple[nn.Module, Extract]:
        """The network that gives the features, and the function from images to these."""
        assert self.features is not None, "skip() asks for them"
        if self.weights is not None and not self.weights.is_file():
            raise DataError(f"{self.weights}: there is no such file of weights")
        if self.features == "inception":
            return _inception(self.weights, evaluation)
        if self.features == "pixels":
            return nn.Identity(), lambda x: adaptive_avg_pool2d(pixels(x), _GRID).flatten(1)
        if self.features.startswith("timm:"):
            return _timm(self.features.removeprefix("timm:"), self.weights, evaluation)
        return _run(Path(self.features), evaluation)


def compared(drawn: Tensor, real: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """Features (n, D) of drawn and of real images -> the scores, and the settings by which they are computed."""
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    size = min(_SUBSET, len(drawn), len(real))
    kid = kid_features_to_metric(drawn, real, kid_subset_size=size, verbose=False)
    prc = prc_features_to_metric(drawn, real, save_cpu_ram=len(real) > _WHOLE, verbose=False)
    scores = {
        "fid": fid(drawn, real),
        "kid": kid["kernel_inception_distance_mean"],
        "precision": prc["precision"],
        "recall": prc["recall"],
    }
    return scores, {"kid_subsets_of": size, "kid_sd": kid["kernel_inception_distance_std"]}


def fid(x: Tensor, y: Tensor) -> float:
    """The Fréchet distance of Gaussians fitted to two sets of features, (n, D) and (m, D)."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = fid_features_to_statistics(x), fid_features_to_statistics(y)
    return float(fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])


def _inception(weights: Path | None, evaluation: Evaluation) -> tuple[nn.Module, Extract]:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    kept = Path(torch.hub.get_dir(), "checkpoints", URL_INCEPTION_V3.rpartition("/")[2])
    if weights is None and evaluation.offline and not kept.is_file():
        raise DataError(
            f"Inception's weights are not in {kept}; get {URL_INCEPTION_V3} and name the file with "
            "--set evaluators.fid.weights=FILE, or leave out --offline to download it"
        )
    try:
        if weights is not None:
            torch.load(weights, map_location="cpu", weights_only=True)  # torch-fidelity would execute what is in it
        network = FeatureExtractorInceptionV3("inception", ["2048"], weights and str(weights), verbose=False)
    except Exception as error:  # no network, or another file
        source = weights or URL_INCEPTION_V3
        raise DataError(f"the weights of Inception cannot be obtained from {source}: {_line(error)}") from error
    network.to(evaluation.device)
    return network, lambda x: network(_coloured(x).to(evaluation.device))[0]


def _timm(name: str, weights: Path | None, evaluation: Evaluation) -> tuple[nn.Module, Extract]:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms.functional import to_pil_image

    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}")
    if weights is None and evaluation.offline:
        raise DataError(
            f"the weights of timm:{name} would be downloaded; name a file of them with "
            "--set evaluators.fid.weights=FILE, or leave out --offline"
        )
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0).eval()
        if weights is not None:
            found, own = timm.models.load_state_dict(str(weights)), network.state_dict()
            if missing := sorted(own.keys() - found.keys()):
                raise KeyError(f"it lacks {len(missing)} of {len(own)} weights, such as {missing[0]}")
            network.load_state_dict({name: found[name] for name in own})  # without those of a classifier
    except Exception as error:  # no network, no such weights, or another file
        where = weights or "timm"
        raise DataError(f"the weights of timm:{name} cannot be obtained from {where}: {_line(error)}") from error
    network.to(evaluation.device)
    transform = create_transform(**resolve_model_data_config(network), is_training=False)

    def extract(x: Tensor) -> Tensor:
        images = torch.stack([transform(to_pil_image(image)) for image in _coloured(x)])
        return network(images.to(evaluation.device))

    return network, extract


def _run(path: Path, evaluation: Evaluation) -> tuple[nn.Module, Extract]:
    try:
        run = Run.open(path)
    except ConfigError as error:
        raise ConfigError(f"features: expected {_KNOWN}; {error}") from error
    method, shape = run.method().to(evaluation.device), (1, *run.image_shape)
    known = method.representations()
    represent = known.get("features", known["latent"])
    return method, lambda x: represent(like(pixels(x), torch.empty(shape)).to(evaluation.device))


def _all(extract: Extract, parts: Iterable[Tensor]) -> Tensor:
    """The features of all images, float32 on the CPU, as torch-fidelity takes them."""
    return torch.cat([extract(part).float().cpu() for part in parts])


def _coloured(x: Tensor) -> Tensor:
    """Grey images with three equal channels. Others are returned unchanged."""
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def _digest(network: nn.Module) -> str:
    """A hash of all weights."""
    sha = hashlib.sha256()
    for value in network.state_dict().values():
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
