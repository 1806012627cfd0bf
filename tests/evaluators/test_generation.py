"""What generated images are scored by, held against closed forms, plain loops and scikit-learn."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from sslx.api import ConfigError, DataError, Evaluation, Features, Method, PluginError, Split
from sslx.core.training.config import configure
from sslx.core.training.run import build
from sslx.evaluators.fid import FID, _inception, _timm, compared, fid
from sslx.evaluators.reconstruction import Reconstruction
from sslx.evaluators.samples import SampleDistance, like_classes, with_density

without_fidelity = "torch-fidelity is not installed: pip install 'sslx[fid]'"


@pytest.fixture
def fidelity() -> Any:
    return pytest.importorskip("torch_fidelity", reason=without_fidelity)


def digits(n: int, seed: int = 0, side: int = 8) -> Split:
    """Grey images of four classes; each class is another quarter that is lit."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 4
    x = torch.rand(n, 1, side, side, generator=generator) / 2
    half = side // 2
    x.view(n, 2, half, 2, half).transpose(2, 3)[torch.arange(n), y // 2, y % 2] += 0.5
    return Split((255 * x).byte(), y)


def evaluation(method: Method, train: Split, test: Split, offline: bool = False) -> Evaluation:
    with torch.no_grad():
        halves = [
            Features(method.represent(next(split.batches(torch.device("cpu")))), split.labels, {})
            for split in (train, test)
        ]
    views = configure({"method": "random"}).views
    return Evaluation(
        *halves, method, (train, test), views, torch.device("cpu"), 0, lambda _: (train, test), "latent", offline
    )


class Copies(Method):
    """A method that draws the test images themselves."""

    images: Tensor

    def represent(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def sample(self, n: int) -> Tensor:
        return self.images[:n]


# --- distances of features --------------------------------------------------------------------------------------------


def gaussian(n: int, mean: Tensor, sd: Tensor, axes: Tensor, seed: int) -> Tensor:
    """(n, D) features whose mean and covariance are exactly these: the covariance is axesᵀ diag(sd²) axes."""
    z = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z - z.mean(dim=0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T.cov())).T
    return (mean + z * sd @ axes).float()


def test_fid_is_the_closed_form_for_gaussian_features(fidelity: Any) -> None:
    """With common axes it is ‖μ - m‖² + Σ (σ - s)²; the sets may differ in size."""
    generator = torch.Generator().manual_seed(0)
    D = 12
    axes = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64)).Q
    (mu, m), (sigma, s) = (
        torch.randn(2, D, generator=generator).double(),
        torch.rand(2, D, generator=generator).double(),
    )
    x, y = gaussian(300, mu, sigma, axes, 1), gaussian(500, m, s, axes, 2)
    expected = (mu - m).square().sum() + (sigma - s).square().sum()
    assert fid(x, y) == pytest.approx(float(expected), rel=1e-5)
    assert fid(x, x) == pytest.approx(0, abs=1e-5)


def test_kid_is_the_mean_discrepancy_of_a_plain_loop(fidelity: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=generator), 1.5 * torch.randn(40, 6, generator=generator) + 0.2
    k = lambda a, b: (sum(p * q for p, q in zip(a, b, strict=True)) / 6 + 1) ** 3  # noqa: E731
    X, Y = x.double().tolist(), y.double().tolist()
    within = [sum(k(a, b) for i, a in enumerate(A) for j, b in enumerate(A) if i != j) / 40 / 39 for A in (X, Y)]
    across = sum(k(a, b) for a in X for b in Y) / 40**2
    scores, facts = compared(x, y)
    assert scores["kid"] == pytest.approx(sum(within) - 2 * across, rel=1e-4)
    assert facts["kid_subsets_of"] == 40


def test_precision_and_recall_are_those_of_a_plain_loop(fidelity: Any) -> None:
    """Precision is that of drawn images: those near a few of the real ones are precise, but recall few."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(50, 3, generator=generator).sort(dim=0).values
    drawn = real[:20] + 0.1 * torch.randn(20, 3, generator=generator)
    X, Y = drawn.double().numpy(), real.double().numpy()

    def covered(points: np.ndarray, others: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(others - other, axis=1))[3] for other in others]  # itself is the nearest
        return float(np.mean([any(np.linalg.norm(p - others, axis=1) <= radii) for p in points]))

    scores, _ = compared(drawn, real)
    assert scores["precision"] == pytest.approx(covered(X, Y)) and scores["recall"] == pytest.approx(covered(Y, X))
    assert scores["precision"] > scores["recall"] + 0.1


# --- how images are drawn ---------------------------------------------------------------------------------------------


def test_latents_of_a_class_have_the_moments_of_its_training_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(600) % 3
    mix, shift = torch.randn(3, 4, 4, generator=generator), 3 * torch.randn(3, 4, generator=generator)
    z = torch.einsum("nd,nde->ne", torch.randn(600, 4, generator=generator), mix[labels]) + shift[labels]
    wanted = torch.tensor([2, 0, 1]).repeat(40_000)
    torch.manual_seed(0)
    drawn = like_classes(z, labels, wanted)
    for c in range(3):
        model = GaussianMixture(1).fit(z[labels == c].double().numpy())
        mine, scale = drawn[wanted == c], float(np.trace(model.covariances_[0]))
        np.testing.assert_allclose(mine.mean(dim=0), model.means_[0], atol=4 * (scale / 40_000) ** 0.5)
        np.testing.assert_allclose(mine.T.cov(), model.covariances_[0], atol=0.03 * scale)


def test_a_class_may_have_one_latent_of_one_dimension() -> None:
    drawn = like_classes(torch.tensor([[2.0], [5.0], [7.0]]), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    assert drawn.shape == (3, 1) and drawn[0] == pytest.approx(2, abs=0.01)


def test_a_sampler_draws_by_the_logits_of_a_method_without_a_density() -> None:
    config = configure({"method": {"use": "barlow-twins", "encoder": {"hidden": [8]}, "projector": [4]}})
    train, test = digits(40), digits(40, 1)
    method = build(config, (1, 8, 8), 40).eval()
    x = torch.rand(5, 1, 8, 8)
    dense: Any = with_density(method)
    torch.testing.assert_close(dense.log_density(x), method.embed(x).logsumexp(dim=1))  # type: ignore[operator]
    steep = {"use": "sgld", "draw_steps": 30, "noise": 0.0, "step_size": 5.0, "chains": 50}
    means = []
    for options in (steep, steep | {"draw_steps": 0}):
        subject = SampleDistance(sampler=options, images=40)
        assert subject.skip(evaluation(method, train, test)) == ""
        torch.manual_seed(0)
        drawn = torch.cat(list(subject.drawn(evaluation(method, train, test), 40)))
        means.append(dense.log_density(drawn).mean())
        assert not hasattr(subject.sampler, "buffer")  # the config's own is not built
    assert means[0] > means[1] + 0.01
    assert "draws no images" in SampleDistance().skip(evaluation(method, train, test))
    assert "cannot decode" in SampleDistance(conditional=True).skip(evaluation(method, train, test))
    with pytest.raises(ConfigError, match="sampler: conditional=true"):
        SampleDistance(conditional=True, sampler="sgld")


# --- whole evaluators -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A run whose encoder gives features, and one that is scored by all that is here."""
    import sslx

    pytest.importorskip("torch_fidelity", reason=without_fidelity)
    folder = tmp_path_factory.mktemp("generation")
    small = {
        "method": {"encoder": {"hidden": [16]}, "decoder": {"hidden": [16]}},
        "train": {"epochs": 1},
        "subset": 100,
    }
    first = sslx.run("vae", dataset="digits", evaluators=[], out=folder / "first", device="cpu", **small)
    evaluators = {
        "samples": {"conditional": True, "images": 50},
        "fid": {"features": str(first.path), "images": 90},
        "fid-of-classes": {"use": "fid", "conditional": True, "features": str(first.path), "against": "training"},
        "reconstruction": {"own": False, "steps": 5, "decoder": {"hidden": [16]}},
        "nameless": {"use": "fid"},
    }
    return first, sslx.run("vae", dataset="digits", evaluators=evaluators, out=folder / "it", device="cpu", **small)


def test_a_run_is_scored_in_the_features_of_another(runs: tuple[Any, Any]) -> None:
    first, run = runs
    trained = run.results["trained"]
    found = trained["fid"]
    assert list(found["scores"]) == ["fid", "kid", "precision", "recall", "fid-of-training"]
    assert found["scores"]["fid"] > found["scores"]["fid-of-training"] > 0
    assert found["protocol"]["images"] == 90 and found["protocol"]["features"] == str(first.path)
    assert found["protocol"]["dimensions"] == 16 and "too large" not in found["summary"]
    assert (
        trained["fid-of-classes"]["protocol"]["images"] == 100 and "fid-of-test" in trained["fid-of-classes"]["scores"]
    )
    assert "class" in trained["fid-of-classes"]["protocol"]["drawn_by"]
    assert "name the features" in trained["nameless"]["skipped"]


def test_pictures_are_in_the_folder_and_not_in_the_results(runs: tuple[Any, Any]) -> None:
    _, run = runs
    with Image.open(run.path / "samples-by-class.png") as picture:
        across, down = picture.size
    assert down > across  # ten classes in rows of eight
    assert (run.path / "reconstruction-decoded.png").is_file() and (run.path / "fid-of-classes-by-class.png").is_file()
    assert "pictures" not in (run.path / "results.json").read_text()


def test_perfect_samples_have_no_distance(runs: tuple[Any, Any]) -> None:
    method, test = Copies(), digits(60, 1)
    method.images = test.images.float() / 255
    result = FID(features=str(runs[0].path), images=60).evaluate(evaluation(method, digits(70), test))
    assert result.scores["fid"] == pytest.approx(0, abs=1e-5)
    assert result.scores["precision"] == result.scores["recall"] == 1
    assert result.scores["kid"] < 0 < result.scores["fid-of-training"]  # unbiased, with equal images across the sets
    assert (
        FID(features=str(runs[0].path), images=10)
        .evaluate(evaluation(method, digits(70), test))
        .summary.endswith("10 images cannot give a covariance of rank 16, so that FID is too large")
    )


def test_decoded_images_are_below_their_own(runs: tuple[Any, Any]) -> None:
    """An identity as a decoder gives each image back."""

    class Plain(Reconstruction):
        def _decoding(self, it: Evaluation) -> Any:
            return lambda x, index: it.test.z[index].view_as(x), "an identity", {"trained_on": 1}

    result = Plain().evaluate(evaluation(Copies(), digits(50), digits(40, 1)))
    shown = result.pictures["decoded"]
    assert shown.shape == (64, 1, 8, 8) and result.scores["reconstruction"] == 0
    torch.testing.assert_close(shown.view(4, 2, 8, 64)[:, 0], shown.view(4, 2, 8, 64)[:, 1])
    assert len(shown.flatten(1).unique(dim=0)) == 32


# --- features that the user names -------------------------------------------------------------------------------------


def test_without_torch_fidelity_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(PluginError, match=r"^FID needs the extra `fid`: pip install \"sslx\[fid\]\"$"):
        FID(features="inception").evaluate(evaluation(Copies(), digits(9), digits(9)))


def test_nothing_is_downloaded_offline_and_no_code_of_a_file_is_executed(
    fidelity: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    it = evaluation(Copies(), digits(9), digits(9), offline=True)
    with pytest.raises(DataError, match="--set evaluators.fid.weights=FILE"):
        FID(features="inception").evaluate(it)
    with pytest.raises(DataError, match="would be downloaded"):
        FID(features="timm:test_vit").evaluate(it)
    with pytest.raises(DataError, match="no such file"):
        FID(features="timm:test_vit", weights=tmp_path / "none").evaluate(it)
    with pytest.raises(
        ConfigError, match="expected inception, timm:NAME, pixels or the folder of a run; .*no run here"
    ):
        FID(features="inceptoin").evaluate(it)

    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"fc.weight": Trap()}, tmp_path / "weights.pth")
    for features in ("inception", "timm:test_vit"):
        with pytest.raises(DataError, match="cannot be obtained from"):
            FID(features=features, weights=tmp_path / "weights.pth").evaluate(it)
    assert not (tmp_path / "executed").exists()


def test_a_timm_model_sees_images_as_it_was_trained_on_them(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_vit").eval()  # with a classifier, as files of weights have it
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    it = evaluation(Copies(), digits(9), digits(9), offline=True)
    _, extract = _timm("test_vit", tmp_path / "weights.safetensors", it)
    images = digits(3, side=40).images
    facts = model.pretrained_cfg
    side = facts["input_size"][-1]
    mean, std = (torch.tensor(facts[name])[:, None, None] for name in ("mean", "std"))
    found = []
    for image in images:
        whole = Image.fromarray(image[0].numpy()).convert("RGB")
        larger = round(side / facts["crop_pct"] - 0.5)
        whole = whole.resize((larger, larger), Image.Resampling.BICUBIC)
        edge = round((larger - side) / 2)
        part = torch.from_numpy(np.array(whole.crop((edge, edge, edge + side, edge + side)))).permute(2, 0, 1)
        found.append((part / 255 - mean) / std)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(torch.stack(found)), pre_logits=True)
        torch.testing.assert_close(extract(images), expected, atol=1e-4, rtol=1e-4)
    (tmp_path / "other.safetensors").unlink(missing_ok=True)
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"it lacks \d+ of \d+ weights"):
        _timm("test_vit", tmp_path / "other.safetensors", it)


def test_inception_is_that_of_torch_fidelity(fidelity: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With random weights in a file: the published ones are not needed for this."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        made = module.FeatureExtractorInceptionV3("it", ["2048"], verbose=False)
    torch.save(made.state_dict(), tmp_path / "weights.pth")
    it = evaluation(Copies(), digits(9), digits(9), offline=True)
    network, extract = _inception(tmp_path / "weights.pth", it)
    images = digits(2).images
    assert isinstance(network, nn.Module) and not network.training
    with torch.no_grad():
        torch.testing.assert_close(extract(images), made(images.repeat(1, 3, 1, 1))[0])
