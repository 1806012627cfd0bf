"""`sslx.Representation` is a transformer as scikit-learn knows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import sslx
from sslx import Representation

NARROW: dict[str, Any] = {"train__batch_size": 16, "encoder__hidden": (16,), "decoder__hidden": (16,)}
SMALL: dict[str, Any] = {"train__epochs": 1, "train__batch_size": 4, "encoder__hidden": (4,), "encoder__dim": 2}
EXPECTED_FAILURES = {
    "check_no_attributes_set_in_init": "the method decides which options there are, so they are kept in one attribute",
}


@parametrize_with_checks(
    [Representation("ae", decoder__hidden=(4,), **SMALL)], expected_failed_checks=lambda _: EXPECTED_FAILURES
)
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def images() -> Any:
    return (load_digits().images[:64] / 16).astype(np.float32)


def test_a_fit_is_the_run_with_the_same_options(tiny_run: Any) -> None:
    train, _ = sslx.make("dataset", "digits").load(Path(), True)
    settings: dict[str, Any] = {"train": {"epochs": 1, "batch_size": 16}, "subset": None, "evaluators": []}
    run = tiny_run("simvae", "run", method={"prior": {"variance": 0.3}}, seed=3, **settings)
    views = {"views__crop": (0.6, 1.0), "views__hflip": 0.0}  # as digits recommend
    options: dict[str, Any] = {"prior__variance": 0.3, "train__epochs": 1, **views, **NARROW}
    fitted = Representation("simvae", seed=3, **options).fit(train.images.numpy())
    with torch.no_grad():
        z = run.method().represent(train.images / 255)
    assert np.array_equal(fitted.transform(train.images.numpy()), z.numpy())
    assert fitted.config_["method"] == run.folder.config()["method"]


def test_images_of_all_documented_kinds_have_one_representation(images: Any) -> None:
    fitted = Representation("vae", train__epochs=1, **NARROW).fit(images)
    z = fitted.transform(images)
    assert z.shape == (64, 10) and z.dtype == np.float32 and fitted.image_shape_ == (1, 8, 8)
    back = fitted.inverse_transform(z)
    assert back.shape == images.shape and back.min() >= 0 and back.max() <= 1
    levels = (images * 255).round().astype(np.uint8)
    assert np.array_equal(fitted.transform(levels), z)
    for other in (images[:, None], levels[:, None]):
        again = Representation("vae", train__epochs=1, **NARROW).fit(other)
        assert np.array_equal(again.transform(other), z) and again.inverse_transform(z).shape == (64, 1, 8, 8)


def test_views_of_an_array_are_crops_mirrored_half_the_time_and_of_points_have_noise(images: Any) -> None:
    fitted = Representation("random").fit(images).config_["views"]
    assert fitted["crop"] == [0.4, 1.0] and fitted["hflip"] == 0.5
    assert Representation("random", views__hflip=0.0).fit(images).config_["views"] == {**fitted, "hflip": 0.0}
    assert Representation("random").fit(images.reshape(64, -1)).config_["views"]["use"] == "noise"


def test_points_of_any_scale_are_decoded(images: Any) -> None:
    points = 10 + 5 * images.reshape(64, -1)[:, 20:24]
    fitted = Representation("ae", train__epochs=100, train__lr=1e-2, **NARROW).fit(points)
    back = fitted.inverse_transform(fitted.transform(points))
    assert back.mean() > 8


def test_pipelines_and_grid_searches_find_the_options(images: Any) -> None:
    pipeline = make_pipeline(Representation("simvae", train__epochs=1, **NARROW), LogisticRegression())
    search = GridSearchCV(pipeline, {"representation__prior__variance": [0.1, 0.4]}, cv=2)
    search.fit(images, load_digits().target[:64])
    assert {row["representation__prior__variance"] for row in search.cv_results_["params"]} == {0.1, 0.4}
    best = search.best_params_["representation__prior__variance"]
    assert search.best_estimator_[0].config_["method"]["prior"]["variance"] == best


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x * 255, {}, r"X: expected images of floats in \[0, 1\], or of uint8, got 0 to 255"),
        (lambda x: (x * 16).astype(int), {}, "X: expected images of uint8, or of floats in .0, 1., got int64"),
        (lambda x: np.stack([x] * 3, -1), {}, r"X.transpose\(0, 3, 1, 2\)"),
        (lambda x: x, {"prior__varianc": 1}, r"method.prior.varianc: .* \(did you mean 'variance'\?\)"),
        (lambda x: x, {"train__epochs": -1}, "train.epochs: expected an integer >= 0, got -1"),
    ],
)
def test_wrong_input_is_one_line(images: Any, change: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Representation("simvae", **options).fit(change(images))
    assert "\n" not in str(caught.value)


def test_only_what_was_fitted_can_be_transformed(images: Any) -> None:
    fitted = Representation("simclr", train__epochs=1, projector=(4, 4), encoder__hidden=(4,)).fit(images)
    with pytest.raises(ValueError, match=r"of shape \(8, 8\), as those of fit, got \(4, 8\)"):
        fitted.transform(images[:, :4])
    with pytest.raises(AttributeError) as caught:
        fitted.inverse_transform  # noqa: B018
    assert "simclr has no decoder" in str(caught.value.__cause__)


def test_the_package_stays_light(in_python: Any) -> None:
    assert in_python("import sys, sslx; print({'torch', 'sklearn'} & set(sys.modules))") == "set()"
