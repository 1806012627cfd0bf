"""Commands of docs/howto/evaluation.md that score other images, other labels and weights without a run, on small data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import reseal
from PIL import Image

_HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Bald")
SMALL = (
    "--set",
    "encoder=cnn",
    "--set",
    "encoder.hidden=8",
    "--set",
    "projector=8",
    "--epochs",
    "1",
    "--batch-size",
    "4",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A tiny CelebA, a tiny STL-10, a folder without labels and one with labels."""
    random = np.random.default_rng(0)
    celeba = tmp_path / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    lines, parts = [], []
    for i in range(16):
        shade = 250 if i % 2 else 5
        Image.new("RGB", (178, 218), (shade, shade, shade)).save(celeba / "img_align_celeba" / f"{i}.png")
        (celeba / "img_align_celeba" / f"{i}.png").rename(celeba / "img_align_celeba" / f"{i}.jpg")
        hair = ["1" if name == ("Blond_Hair" if i % 2 else "Black_Hair") else "-1" for name in _HAIR]
        lines.append(f"{i}.jpg {1 if i % 3 else -1} {' '.join(hair)}")
        parts.append(f"{i}.jpg {0 if i < 10 else 2}")
    (celeba / "list_attr_celeba.txt").write_text("\n".join(["16", " ".join(("Male", *_HAIR)), *lines]) + "\n")
    (celeba / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")

    stl10 = tmp_path / "stl10_binary"
    stl10.mkdir()
    for half, n in (("train", 8), ("test", 6), ("unlabeled", 8)):
        random.integers(256, size=(n, 3, 96, 96), dtype=np.uint8).tofile(stl10 / f"{half}_X.bin")
        if half != "unlabeled":
            (np.arange(n, dtype=np.uint8) % 2 + 1).tofile(stl10 / f"{half}_y.bin")

    for name in ("plain", "train/a", "train/b", "test/a", "test/b"):
        folder = tmp_path / ("unlabelled" if name == "plain" else f"labelled/{name}")
        folder.mkdir(parents=True)
        for i in range(8):
            shade = 200 if name.endswith("a") else 20
            Image.fromarray(random.integers(shade, shade + 40, size=(16, 16, 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
    return tmp_path


def test_unlabelled_images_are_trained_on_and_labelled_ones_scored(command: Callable[..., Any], data: Path) -> None:
    here = ("--data-dir", str(data), "--offline")
    arguments = ("-p", "simclr", *SMALL, "-e", "knn", *here)
    code, output, errors = command(
        "run", *arguments, "-d", "stl10", "--set", "dataset.part=unlabelled", "--eval-dataset", "stl10", "--out", "stl"
    )
    assert code == 0 and "Representations of stl10" in output and "knn" in output, errors
    code, output, errors = command(
        "run", *arguments, "-d", "folder:unlabelled", "--eval-dataset", "folder:labelled", "--out", "own"
    )
    assert code == 0 and re.search(r"pixels +1\.0000", output), (output, errors)


def test_other_labels_and_other_images_have_tables_of_their_own(command: Callable[..., Any], data: Path) -> None:
    here = ("--data-dir", str(data), "--offline")
    code, _, errors = command(
        "run", "-p", "vae", "-d", "celeba", "--set", "dataset.size=16", "--set", "encoder=cnn", "--set", "decoder.hidden=8",
        "--epochs", "1", "--batch-size", "4", "-e", "linear", *here, "--out", "faces",
    )  # fmt: skip
    assert code == 0, errors
    code, output, errors = command("eval", "faces", "-e", "linear", "--set", "dataset.label=hair", *here)
    assert code == 0 and output.count("Representations of celeba (label=") == 2, (output, errors)
    code, output, errors = command("eval", "faces", "-e", "knn", "--dataset", "folder:labelled", *here)
    assert code == 0 and "Representations of folder" in output, (output, errors)
    code, _, errors = command("eval", "faces", "-e", "knn", "--set", "dataset.lable=hair", *here)
    assert code == 2 and "did you mean 'label'?" in errors


def test_results_of_a_version_without_an_option_of_the_dataset_stay_those_of_the_run(
    command: Callable[..., Any], data: Path
) -> None:
    small = (
        "--set",
        "encoder.hidden=8",
        "--set",
        "decoder.hidden=8",
        "--subset",
        "60",
        "--epochs",
        "1",
        "--batch-size",
        "30",
    )
    code, _, errors = command("run", "-p", "vae", "-d", "moons", "-e", "knn", *small, "--out", "old")
    assert code == 0, errors
    reseal(data / "old" / "results.json", lambda values: values["data"]["dataset"].pop("noise"))
    code, output, errors = command("eval", "old", "-e", "gmm")
    assert code == 0 and output.count("Representations of") == 1, (output, errors)
    results = json.loads((data / "old" / "results.json").read_text())
    assert "others" not in results and {"knn", "gmm"} == results["trained"].keys()
    code, output, errors = command("eval", "old", "-e", "gmm", "--set", "dataset.noise=0.1")
    assert code == 0 and output.count("Representations of moons (noise=") == 2, (output, errors)


def test_weights_without_a_run_are_one_command(command: Callable[..., Any], data: Path) -> None:
    code, _, errors = command("run", "-p", "simclr", *SMALL, "-d", "folder:labelled", "-e", "knn", "--out", "mine")
    assert code == 0, errors
    file = os.path.join("mine", "export", "model.safetensors")
    code, output, errors = command("eval", "--model", file, "-d", "folder:labelled", "-e", "knn", "--out", "alone")
    assert code == 0 and "alone: trained 0.0 s" in output, (output, errors)
    assert "\nknn: random (weights=" in output  # its encoder is not a random one
    code, _, errors = command("eval", "--model", "mine", "-e", "linear")  # a run is evaluated itself
    assert code == 0, errors
    code, output, _ = command("compare", "mine", "alone")
    assert code == 0 and "simclr" in output and "knn: random (weights=" in output
    code, _, errors = command("eval", "-e", "knn")
    assert code == 2 and "expected the folder of a run, or --model" in errors
    (data / "theirs.safetensors").write_bytes((data / file).read_bytes())
    code, _, errors = command("eval", "--model", "theirs.safetensors", "-e", "knn")
    assert code == 2 and "has no config of sslx beside it" in errors
    for name, hint in (("nothing.safetensors", "\n"), ("resnet18", " (did you mean 'timm:resnet18'?)\n")):
        code, _, errors = command("eval", "--model", name, "-e", "knn")
        assert code == 2 and errors.endswith(f"a .safetensors file or timm:NAME, got {name}{hint}")
    code, _, errors = command("run", "-p", "simclr", *SMALL, "-d", "folder:labelled", "--from", "resnet18")
    assert code == 2 and errors.endswith("resnet18 (did you mean 'timm:resnet18'?)\n")
