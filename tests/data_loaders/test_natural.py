"""Downloaded datasets are read as torchvision lays them out, and nothing in their files is executed."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from sslx.api import DataError, Dataset
from sslx.data_loaders.datasets.celeba import _HAIR, CelebA
from sslx.data_loaders.datasets.downloads import obtain
from sslx.data_loaders.datasets.natural import CIFAR10, CIFAR100, STL10, SVHN


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))  # the protocol of the real files


def pixels(n: int) -> np.ndarray:
    return np.arange(n * 3072, dtype=np.int64).reshape(n, 3072).astype(np.uint8)


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    base = tmp_path / "cifar-10-batches-py"
    for i in range(1, 6):
        write(base / f"data_batch_{i}", {"data": pixels(2), "labels": [i, 0], "filenames": ["x", "y"]})
    write(base / "test_batch", {"data": pixels(1), "labels": [9]})
    return tmp_path


def test_cifar10_is_read_batch_after_batch(cifar10: Path) -> None:
    train, test = CIFAR10().load(cifar10, offline=True)
    assert train.images.shape == (10, 3, 32, 32) and train.images.dtype == torch.uint8 and len(test) == 1
    assert train.labels is not None and train.labels.tolist() == [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]
    assert torch.equal(train.images[1].flatten(), torch.from_numpy(pixels(2)[1]))


def test_cifar100_has_superclasses_as_a_factor(tmp_path: Path) -> None:
    for name in ("train", "test"):
        content = {"data": pixels(2), "fine_labels": [99, 3], "coarse_labels": [19, 1]}
        write(tmp_path / "cifar-100-python" / name, content)
    train, _ = CIFAR100().load(tmp_path, offline=True)
    assert train.labels is not None and train.labels.tolist() == [99, 3]
    assert train.factors["coarse"].tolist() == [19, 1]


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_is_refused_before_it_does(cifar10: Path) -> None:
    victim = cifar10 / "exploded"
    write(cifar10 / "cifar-10-batches-py" / "test_batch", {"data": pixels(1), "labels": [9], "x": Bomb(victim)})
    with pytest.raises(DataError, match=r"test_batch cannot be read.*which image data do not need"):
        CIFAR10().load(cifar10, offline=True)
    assert not victim.exists()


def test_more_labels_than_images_are_fatal(cifar10: Path) -> None:
    write(cifar10 / "cifar-10-batches-py" / "test_batch", {"data": pixels(1), "labels": [9, 9]})
    with pytest.raises(DataError, match="there are 1 images but 2 labels"):
        CIFAR10().load(cifar10, offline=True)


def test_svhn_s_tenth_class_is_the_zero(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 3), dtype=np.uint8)
    for half in ("train", "test"):
        savemat(tmp_path / f"{half}_32x32.mat", {"X": images, "y": np.array([[10], [1], [9]], dtype=np.uint8)})
    train, _ = SVHN().load(tmp_path, offline=True)
    assert train.labels is not None and train.labels.tolist() == [0, 1, 9] and train.labels.dtype == torch.int64
    assert train.images.shape == (3, 3, 32, 32) and train.images[2, 1, 5, 7] == images[5, 7, 1, 2]


@pytest.fixture
def stl10(tmp_path: Path) -> Path:
    base = tmp_path / "stl10_binary"
    base.mkdir()
    for name, n in (("train", 2), ("test", 3), ("unlabeled", 4)):
        image = np.zeros((n, 3, 96, 96), dtype=np.uint8)
        image[:, 0, 5, 7] = 255  # row 5, column 7
        image.transpose(0, 1, 3, 2).tofile(base / f"{name}_X.bin")
        np.full(n, 10, dtype=np.uint8).tofile(base / f"{name}_y.bin")
    return tmp_path


def test_stl10_s_images_stand_upright_and_its_classes_begin_at_zero(stl10: Path) -> None:
    train, test = STL10().load(stl10, offline=True)
    assert train.images[0, 0, 5, 7] == 255 and train.images.shape == (2, 3, 96, 96)
    assert test.labels is not None and test.labels.tolist() == [9, 9, 9]


def test_stl10_trains_on_the_unlabelled_part_if_told(stl10: Path) -> None:
    train, test = STL10(part="unlabelled").load(stl10, offline=True)
    assert len(train) == 4 and train.labels is None and test.labels is not None


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    base = tmp_path / "celeba"
    (base / "img_align_celeba").mkdir(parents=True)
    names = ["Male", *_HAIR]
    rows = ["1 1 -1 -1 -1 -1", "-1 -1 1 -1 -1 -1", "1 1 1 -1 -1 -1", "-1 -1 -1 -1 -1 -1", "1 -1 -1 -1 -1 1"]
    for i in range(5):
        face = Image.new("RGB", (178, 218), (0, 0, 0))
        face.paste((250, 250, 250), (0, 20, 178, 198))  # the central square
        face.save(base / "img_align_celeba" / f"{i}.jpg")
    lines = [f"{i}.jpg {row}" for i, row in enumerate(rows)]
    (base / "list_attr_celeba.txt").write_text("\n".join(["5", " ".join(names), *lines]) + "\n")
    (base / "list_eval_partition.txt").write_text("0.jpg 0\n1.jpg 0\n2.jpg 0\n3.jpg 2\n4.jpg 2\n")
    return tmp_path


def test_celeba_has_its_attributes_as_factors_and_faces_from_the_centre(celeba: Path) -> None:
    train, test = CelebA(size=16).load(celeba, offline=True)
    assert train.images.shape == (3, 3, 16, 16) and train.images.min() > 200
    assert train.labels is not None and train.labels.tolist() == [1, 0, 1]
    assert test.labels is not None and test.labels.tolist() == [0, 1]
    assert train.factors["Blond_Hair"].tolist() == [0, 1, 1] and len(train.factors) == 6


def test_celeba_s_hair_is_that_of_images_with_one_colour(celeba: Path) -> None:
    train, test = CelebA(size=16, label="hair").load(celeba, offline=True)
    assert train.labels is not None and train.labels.tolist() == [0, 1]  # the third is black and blond
    assert test.labels is not None and test.labels.tolist() == [4]


def test_celeba_s_lists_must_agree(celeba: Path) -> None:
    (celeba / "celeba" / "list_eval_partition.txt").write_text("0.jpg 0\n2.jpg 0\n1.jpg 0\n3.jpg 2\n4.jpg 2\n")
    with pytest.raises(DataError, match="list different images"):
        CelebA().load(celeba, offline=True)


@pytest.mark.parametrize("memory", [0.0, 4.0])
def test_celeba_without_an_image_that_its_lists_name_is_refused(
    celeba: Path, memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(celeba))
    (celeba / "celeba" / "img_align_celeba" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 files cannot be read as images: 1.jpg \(No such file or directory\);"):
        CelebA(size=16, memory=memory).load(celeba, offline=True)
    train, _ = CelebA(size=16, memory=memory, bad_images="skip").load(celeba, offline=True)
    assert len(train) == 2 and train.labels is not None and train.labels.tolist() == [1, 1]
    assert train.factors["Blond_Hair"].tolist() == [0, 1] and train.images[torch.arange(2)].min() > 200


@pytest.mark.parametrize("dataset", [CIFAR10(), CIFAR100(), SVHN(), STL10(), CelebA()])
def test_offline_nothing_is_downloaded(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not in .*--data-dir or SSLX_DATA.*--offline"):
        dataset.load(tmp_path, offline=True)
    assert not list(tmp_path.iterdir())


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "set.tar"
    with tarfile.open(archive, "w") as tar:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    folder = tmp_path / "folder"

    def unpack() -> None:
        with tarfile.open(archive) as tar:
            tar.extractall(folder)

    with pytest.raises(DataError, match="could not be downloaded"):
        obtain("Set", folder, [folder / "outside"], unpack, offline=False)
    assert not (tmp_path / "outside").exists()
