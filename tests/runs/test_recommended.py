"""What is not set is what the dataset and the method recommend, and what is set is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import sslx
from sslx.core.dotted import parse
from sslx.core.options import to_dict
from sslx.core.training.config import configure
from sslx.core.training.run_folder import RunFolder
from sslx.outputs.formats import text
from sslx.outputs.tables import tables
from sslx.runs.plan import plan
from sslx.runs.session import open_run


def paint(folder: Path, n: int, size: tuple[int, int] = (8, 8), names: str = "ab") -> dict[str, Any]:
    """n images for training in each of these classes, or without classes, and as many for testing."""
    for half in ("train", "test"):
        for name in names or [""]:
            (folder / half / name).mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", size, (i, 9 * i % 256, ord(name or "a"))).save(folder / half / name / f"{i}.png")
    return {"use": "folder", "path": str(folder)}


def found(method: Any, dataset: Any, **options: Any) -> Any:
    return configure({"method": method, "dataset": dataset, **options})


def test_a_folder_has_what_suits_the_size_and_the_number_of_its_images(tmp_path: Path) -> None:
    few = found("simclr", paint(tmp_path / "few", n=20))
    assert (few.train.batch_size, few.train.epochs) == (10, 200)
    assert type(few.method.encoder).__name__ == "CNNEncoder" and few.method.encoder.dim == 0
    assert few.views.crop == (0.2, 1.0) and few.views.hflip == 0.5 and few.views.hue > 0
    large = paint(tmp_path / "large", n=2, size=(200, 120))
    encoder = found("simclr", large).method.encoder
    assert (type(encoder).__name__, encoder.stem, encoder.dim) == ("ResNet18Encoder", "imagenet", 0)
    assert found("simclr", {**large, "size": 100}).method.encoder.stem == "medium"
    assert type(found("simclr", {**large, "size": 32}).method.encoder).__name__ == "CNNEncoder"
    nothing = found("simclr", {"use": "folder", "path": str(tmp_path / "nothing")})
    assert (type(nothing.method.encoder).__name__, nothing.train.epochs, nothing.train.batch_size) == (
        "CNNEncoder", 20, 64,
    )  # fmt: skip
    assert (tmp_path / "few").is_dir() and not (tmp_path / "nothing").exists()


def test_links_that_form_a_loop_and_runs_are_not_counted(tmp_path: Path) -> None:
    data = paint(tmp_path / "data", n=20)
    (tmp_path / "data" / "train" / "a" / "again").symlink_to(tmp_path / "data" / "train", target_is_directory=True)
    run = tmp_path / "data" / "train" / "runs"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "samples.png").write_bytes(b"")
    assert found("simclr", data).train.batch_size == 10


@pytest.mark.parametrize(
    ("method", "encoder", "dim"),
    [
        ("simclr", "CNNEncoder", 0),
        ("swav", "CNNEncoder", 0),
        ("rotation", "CNNEncoder", 0),
        ("vae", "MLPEncoder", 10),  # needs a latent, and the decoder is its mirror image
        ("gedi", "MLPEncoder", 10),  # asks for a slope, which a cnn has not
        ("nesy", "CNNEncoder", 64),  # asks for its own
        ({"use": "simclr", "encoder": "cnn"}, "CNNEncoder", 10),  # the options of another choice are its own
        ({"use": "simclr", "encoder": {"use": "resnet8"}}, "ResNet8Encoder", 10),
        ({"use": "simclr", "encoder": {"hidden": 32}}, "CNNEncoder", 0),
        ({"use": "simclr", "encoder": {"dim": 7}}, "CNNEncoder", 7),
    ],
)
def test_a_network_is_for_methods_and_users_that_ask_for_none(method: Any, encoder: str, dim: int) -> None:
    part = found(method, "fashion-mnist").method.encoder
    assert (type(part).__name__, part.dim) == (encoder, dim)


def test_an_energy_is_recommended_only_where_there_is_one() -> None:
    assert found("simclr", "moons").method.energy is None and found("gedi", "moons").method.energy is not None


UNLABELLED = {"use": "stl10", "part": "unlabelled"}


@pytest.mark.parametrize(
    ("method", "dataset", "settings", "names", "expected"),
    [
        ("simclr", "digits", [], None, ["knn", "linear"]),
        ("swav", "digits", [], None, ["knn", "linear", "cluster"]),
        ("deep-cluster", "digits", [], None, ["knn", "linear", "cluster"]),
        ("jem", "digits", [], None, ["knn", "linear", "cluster"]),
        ("gedi", "moons", [], None, ["cluster", "gmm", "knn"]),
        ("simclr", UNLABELLED, [], None, ["geometry"]),
        ("simclr", "styled-fashion", [], None, ["knn", "linear", "style"]),
        ("gedi", "moons", [], ["linear"], ["linear"]),
        ("simclr", UNLABELLED, ["evaluators.gmm.restarts=1"], None, ["geometry", "gmm"]),
        ("swav", "digits", ["evaluators.linear.of=latent"], None, ["knn", "linear", "cluster"]),
        ("swav", "digits", ["evaluators=gmm"], None, ["gmm"]),
    ],
)
def test_evaluators_are_recommended_until_the_user_names_some(
    method: str, dataset: Any, settings: list[str], names: list[str] | None, expected: list[str]
) -> None:
    base = {"dataset": dataset}
    (config,) = plan(dict(map(parse, settings)), methods=[method], evaluators=names, base=base).values()
    assert list(config.evaluators) == expected
    if not settings:
        assert list(configure({"method": method, **base}, evaluators=names).evaluators) == expected


def test_each_run_of_a_grid_has_the_evaluators_of_its_method() -> None:
    configs = plan({}, methods=["simclr", "swav"]).values()
    assert [list(config.evaluators) for config in configs] == [["knn", "linear"], ["knn", "linear", "cluster"]]


def test_a_recorded_run_keeps_what_it_had(tmp_path: Path) -> None:
    data = paint(tmp_path / "data", n=2)
    before = {"use": "simclr", "encoder": {"use": "mlp", "hidden": [4], "dim": 3}}
    recorded = to_dict(found(before, data, train={"epochs": 1}, evaluators={"knn": {}}))
    paint(tmp_path / "more", n=40)
    (tmp_path / "data").rename(tmp_path / "old")
    (tmp_path / "more").rename(tmp_path / "data")
    assert to_dict(configure(recorded)) == recorded


def test_images_without_labels_end_in_a_table_with_scores(command: Callable[..., Any], tmp_path: Path) -> None:
    paint(tmp_path / "data", n=16, names="")
    words = ("--epochs", "1", "--set", "evaluators.geometry.images=4", "--set", "evaluators.geometry.views=2")
    done = command("run", "-p", "simclr", "-d", "folder:data", *words, "-o", "run")
    assert done.code == 0, done.errors
    assert "rankme" in done.output and "skipped" not in done.output
    (table,) = tables([sslx.open_run("run")])
    assert table.rows[0].cells["images"].mean == 16 and " 16 " in done.output


@pytest.mark.parametrize(
    ("score", "images", "sentence"),
    [
        (0.9, 100, "knn: simclr is above its untrained encoder, pixels and pca"),
        (0.45, 10_000, "knn: simclr is above its untrained encoder and pixels and not above pca"),
        (0.45, 100, "knn: simclr is above pixels, hardly above its untrained encoder and not above pca; training has "
                "hardly improved this score"),  # two standard errors are 0.0995
        (0.405, 10_000, "knn: simclr is above pixels, hardly above its untrained encoder and not above pca; training "
                "has hardly improved this score"),
        (0.3, 10_000, "knn: simclr is above pixels and not above its untrained encoder or pca; training has not "
              "improved this score"),
    ],
)  # fmt: skip
def test_the_table_says_what_training_was_good_for(score: float, images: int, sentence: str, tmp_path: Path) -> None:
    def result(value: float) -> dict[str, Any]:
        return {"knn": {"options": {"use": "knn"}, "scores": {"knn": value}, "protocol": {}, "summary": "k"}}

    facts = {"data": {"samples": 100, "image_shape": [1, 8, 8]}}
    folder = RunFolder.create(tmp_path / "run", "run", to_dict(configure({"method": "simclr"})), facts)
    values = {"trained": score, "untrained": 0.4, "pixels": 0.2, "pca": 0.6}
    data = {"dataset": folder.config()["dataset"], "training": 100, "test": images, "sha256": ""}
    folder.write("results.json", {name: result(value) for name, value in values.items()} | {"data": data})
    (table,) = tables([open_run(folder.path)])
    assert sentence in table.notes and sentence in text([table])
