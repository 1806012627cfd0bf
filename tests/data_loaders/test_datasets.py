"""Datasets are what they say, and a missing or damaged one is one line that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.functional import to_tensor

from sslx.api import ConfigError, DataError, Split
from sslx.data_loaders.datasets.digits import Digits
from sslx.data_loaders.datasets.mnist import MNIST, FashionMNIST
from sslx.data_loaders.loaders.ffcv import FFCV
from sslx.data_loaders.loaders.memory import Memory


def idx(*shape: int, kind: int = 8) -> bytes:
    """An idx file of zeros: magic, sizes, values."""
    header = bytes([0, 0, kind, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return header + bytes(torch.Size(shape).numel())


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with an MNIST of 5 training and 2 test images."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for half, n in (("train", 5), ("t10k", 2)):
        (raw / f"{half}-images-idx3-ubyte").write_bytes(idx(n, 28, 28))
        (raw / f"{half}-labels-idx1-ubyte").write_bytes(idx(n))
    return tmp_path


def test_digits_are_as_declared(tmp_path: Path) -> None:
    train, test = Digits().load(tmp_path, offline=True)
    assert train.images.shape == (1437, 1, 8, 8) and test.images.shape == (360, 1, 8, 8)
    for split in (train, test):
        assert split.images.dtype == torch.uint8 and split.labels is not None and split.labels.dtype == torch.int64
        assert split.images.min() == 0 and split.images.max() == 255
    assert not list(tmp_path.iterdir())


def test_digits_are_stratified_and_always_split_alike(tmp_path: Path) -> None:
    train, test = Digits().load(tmp_path, offline=True)
    again, _ = Digits().load(tmp_path, offline=True)
    assert train.labels is not None and test.labels is not None and torch.equal(train.images, again.images)
    share = test.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    assert (share - 0.2).abs().max() < 0.006  # one image of a class is 0.0056
    assert train.labels[:50].unique().numel() > 5  # not sorted by class: a part of the set is still a sample of it


@pytest.mark.parametrize("dataset", [MNIST(), FashionMNIST()])
def test_the_real_files_have_70_000_images_in_ten_classes(dataset: MNIST) -> None:
    folder = Path(os.environ.get("SSLX_DATA", "nowhere"))
    if not (folder / dataset.source).is_dir():
        pytest.skip(f"SSLX_DATA points to no folder with {dataset.source}")
    for split, n in zip(dataset.load(folder, offline=True), (60_000, 10_000), strict=True):
        assert split.images.shape == (n, 1, 28, 28) and split.images.dtype == torch.uint8
        assert split.labels is not None and split.labels.dtype == torch.int64
        assert split.labels.bincount().shape == (10,) and split.images.float().mean() > 30


def test_idx_files_are_read_as_torchvision_lays_them_out(tiny: Path) -> None:
    train, test = MNIST().load(tiny, offline=True)
    assert train.images.shape == (5, 1, 28, 28) and test.images.shape == (2, 1, 28, 28)


@pytest.mark.parametrize("dataset", [MNIST, FashionMNIST])
def test_binarized_pixels_are_those_of_a_threshold_of_a_half(dataset: type[MNIST], tiny: Path) -> None:
    """As by torchvision's ToTensor and the threshold of SimVAE's code, which is 0.5."""
    (tiny / "MNIST").rename(tiny / "renamed")
    (tiny / "renamed").rename(tiny / dataset.source)
    values = torch.arange(5 * 784).mul(37).remainder(256).byte().reshape(5, 1, 28, 28)
    path = tiny / dataset.source / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:16] + bytes(values.flatten().tolist()))
    grey, _ = dataset().load(tiny, offline=True)
    assert torch.equal(torch.as_tensor(grey.images[:]), values)
    train, test = dataset(binarize=True).load(tiny, offline=True)
    expected = torch.stack([to_tensor(Image.fromarray(image[0].numpy())) for image in values]) > 0.5
    assert torch.equal(train.images[:] == 255, expected) and set(train.images[:].unique().tolist()) == {0, 255}
    assert train.images.dtype == torch.uint8 and test.images[:].max() == 0


def test_offline_a_missing_set_says_where_it_was_sought_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        FashionMNIST().load(tmp_path, offline=True)
    assert str(error.value) == (
        f"FashionMNIST is not in {tmp_path}/FashionMNIST/raw: choose another folder with --data-dir or SSLX_DATA, "
        "or leave out --offline to download it"
    )
    assert not list(tmp_path.iterdir())


def test_a_failed_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(datasets.mnist, "download_and_extract_archive", unreachable)
    with pytest.raises(DataError, match=r"MNIST could not be downloaded to .*no route to host.*SSLX_DATA") as error:
        MNIST().load(tmp_path, offline=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("train-images-idx3-ubyte", idx(5, 28, 28)[:-1], id="truncated"),
        pytest.param("train-images-idx3-ubyte", b"", id="empty"),
        pytest.param("train-images-idx3-ubyte", b"not an idx file at all", id="magic"),
        pytest.param("t10k-labels-idx1-ubyte", idx(2, kind=9), id="signed"),
        pytest.param("t10k-images-idx3-ubyte", idx(2, 28), id="dimension"),
        pytest.param("t10k-labels-idx1-ubyte", idx(3), id="one-label-too-many"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tiny: Path, file: str, content: bytes) -> None:
    raw = tiny / "MNIST" / "raw"
    (raw / file).write_bytes(content)
    with pytest.raises(DataError) as error:
        MNIST().load(tiny, offline=False)
    assert str(error.value).startswith(f"{raw}/{file.split('-')[0]}-*") and "\n" not in str(error.value)


def test_memory_brings_the_images_asked_for_in_their_order() -> None:
    split, loader = Split(torch.arange(40, dtype=torch.uint8).reshape(10, 1, 2, 2)), Memory()
    loader.open(split, torch.device("cpu"))
    indices = [torch.tensor([7, 0, 7]), torch.tensor([3])]
    for index, batch in zip(indices, loader.batches(indices), strict=True):
        assert torch.equal(batch, split.images[index])


def test_where_ffcv_is_missing_two_commands_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ffcv", None)
    with pytest.raises(ConfigError, match=r"`apt-get install .*libopencv-dev.*`, then `pip install 'sslx\[ffcv\]'`"):
        FFCV(cache=tmp_path).open(Split(torch.zeros(5, 1, 2, 2, dtype=torch.uint8)), torch.device("cpu"))
    assert not list(tmp_path.iterdir())


def test_without_ffcv_the_command_is_one_line_with_the_two_that_install_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['ffcv'] = None; from sslx.cli import main; main(sys.argv[1:])"
    words = ["run", "-p", "simclr", "-d", "digits", "--loader", "ffcv", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "`apt-get install libturbojpeg0-dev" in done.stderr and "`pip install 'sslx[ffcv]'`" in done.stderr
