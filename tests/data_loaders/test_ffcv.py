"""The FFCV loader brings the same images as the memory loader, from real `.beton` files."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from conftest import digest, together
from PIL import Image

from sslx.api import ConfigError, DataError, Lazy, Split
from sslx.data_loaders import beton
from sslx.data_loaders.datasets.converted import Converted
from sslx.data_loaders.datasets.digits import Digits
from sslx.data_loaders.datasets.folder import Folder
from sslx.data_loaders.loaders.ffcv import FFCV
from sslx.data_loaders.loaders.memory import Memory

if importlib.util.find_spec("ffcv") is None:  # not imported: it would take the threads of the other tests
    pytest.skip("FFCV is not installed: pip install 'sslx[ffcv]'", allow_module_level=True)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """More than the one that FFCV leaves."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def gradients(n: int, channels: int = 3, size: int = 16) -> Split:
    """Smooth images, no two alike."""
    ramp = torch.linspace(0, 1, size)
    start = torch.linspace(0, 100, n)[:, None, None, None]
    slope = torch.linspace(20, 150, channels)[None, :, None, None]
    return Split((start + slope * (ramp[:, None] + ramp) / 2).round().to(torch.uint8))


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., FFCV]:
    def open(split: Split, **options: Any) -> FFCV:
        loader = FFCV(cache=tmp_path / "cache", **options)
        loader.open(split, CPU)
        return loader

    return open


@pytest.mark.parametrize("channels", [1, 3])
def test_raw_images_are_those_of_the_memory_loader_in_its_order(opened: Callable[..., FFCV], channels: int) -> None:
    split, memory = gradients(50, channels), Memory()
    memory.open(split, CPU)
    loader = opened(split)
    order = torch.randperm(50)
    for indices in ([*order.split(8)], [order[:3], order[:3], order[7:8], order]):  # any sizes, one more than once
        expected, found = list(memory.batches(indices)), list(loader.batches(indices))  # kept: not overwritten
        assert len(found) == len(expected) and all(map(torch.equal, found, expected))
        assert all(batch.is_contiguous() and batch.dtype == torch.uint8 for batch in found)


def test_an_epoch_can_be_entered_at_any_batch(opened: Callable[..., FFCV]) -> None:
    split = gradients(50)
    loader, indices = opened(split), list(torch.randperm(50).split(8))
    for done in (0, 3, 6):
        found = torch.cat(list(loader.batches(indices[done:])))
        assert torch.equal(found, split.images[torch.cat(indices[done:])])


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_images_are_nearly_the_same(opened: Callable[..., FFCV], channels: int) -> None:
    split = gradients(20, channels)
    (found,) = opened(split, storage="jpeg").batches([torch.arange(20)])
    assert found.shape == split.images.shape and found.is_contiguous()
    error = (found.float() - split.images.float()).abs()
    assert 0 < error.mean() < 3 and error.max() < 20


def test_a_run_with_either_loader_ends_with_the_same_weights(tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    loaders = {"memory": "memory", "ffcv": {"use": "ffcv", "cache": str(tmp_path / "cache")}}
    runs = [tiny_run("simvae", name, loader=loader) for name, loader in loaders.items()]
    assert digest(runs[0].path) == digest(runs[1].path)


TWO = """
import sslx
for loader in ("memory", {"use": "ffcv", "cache": "cache"}):
    sslx.run("simclr", dataset="digits", subset=64, loader=loader, device="cpu", evaluators="knn",
        method={"encoder": {"hidden": [8]}, "projector": [8]}, train={"epochs": 1, "batch_size": 16},
        out=loader if loader == "memory" else "ffcv")
"""


def test_a_run_of_two_processes_converts_once_and_ends_with_the_same_weights(
    tmp_path: Path,
) -> None:
    assert "".join(together(tmp_path, TWO, 2)).count("converted 64 images") <= 1  # 0 if the other one was much faster
    assert len(list((tmp_path / "cache").glob("*.beton"))) == 1
    assert digest(tmp_path / "memory") == digest(tmp_path / "ffcv")


def test_leaving_epochs_early_leaks_neither_thread_nor_memory(opened: Callable[..., FFCV]) -> None:
    split = gradients(400, size=32)
    loader, indices = opened(split), list(torch.arange(400).split(50))

    def leave_early(times: int) -> None:
        for i in range(times):
            for _ in first(loader.batches(indices), 1 + i % 4):
                pass

    leave_early(10)
    import psutil  # comes with FFCV

    before, process = threading.active_count(), psutil.Process()
    memory = process.memory_info().rss
    leave_early(60)
    assert threading.active_count() == before
    # An epoch reads at least 4 batches of 50 images, 0.6 MB: those of 60 epochs would be 37 MB.
    assert process.memory_info().rss - memory < 20e6


def first(batches: Iterator[torch.Tensor], n: int) -> Iterator[torch.Tensor]:
    """n batches, then leave, without waiting for the garbage collector to close the iterator."""
    for batch, _ in zip(batches, range(n), strict=False):
        yield batch


def test_iterators_that_are_still_held_cost_no_threads(opened: Callable[..., FFCV]) -> None:
    split = gradients(400)
    loader, indices = opened(split), list(torch.arange(400).split(10))
    list(loader.batches(indices))
    before, held = threading.active_count(), []
    for _ in range(5):
        held.append(loader.batches(indices))
        next(held[-1])
    assert torch.equal(torch.cat(list(loader.batches(indices))), split.images)
    assert threading.active_count() == before


def test_torch_and_numba_keep_their_threads(opened: Callable[..., FFCV]) -> None:
    import numba

    split = gradients(64)
    threads = torch.get_num_threads(), numba.get_num_threads()
    loader = opened(split, threads=1)
    assert threads[0] == 2 and (torch.get_num_threads(), numba.get_num_threads()) == threads
    for _ in range(2):
        for _ in loader.batches(list(torch.arange(64).split(8))):
            assert (torch.get_num_threads(), numba.get_num_threads()) == threads
        assert (torch.get_num_threads(), numba.get_num_threads()) == threads


def test_importing_ffcv_leaves_the_threads_alone(in_python: Callable[[str], str]) -> None:
    code = (
        "import torch; torch.set_num_threads(2); from sslx.data_loaders import beton; beton.require(); "
        "import numba, sys; print(torch.get_num_threads(), numba.get_num_threads() > 0, 'ffcv' in sys.modules)"
    )
    assert in_python(code) == "2 True True"


def test_a_set_is_converted_once_and_said(
    opened: Callable[..., FFCV], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(gradients(20))
    assert "loader ffcv: converted 20 images to" in capsys.readouterr().err
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.beton")}
    opened(gradients(20))
    assert capsys.readouterr().err == ""
    opened(gradients(21))  # another set
    assert len(files) == 1 and len(list((tmp_path / "cache").glob("*.beton"))) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in files.items())


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffcv import writer

    encode = writer.handle_sample

    def full(sample: Any, i: int, *arguments: Any) -> None:
        if i == 7:
            raise OSError(errno.ENOSPC, "No space left on device")
        encode(sample, i, *arguments)

    monkeypatch.setattr(writer, "handle_sample", full)
    with pytest.raises(DataError, match=r"x.beton cannot be written: No space left"):
        beton.write([gradients(10)], tmp_path / "sets" / "x.beton", "raw", 95)
    assert not list((tmp_path / "sets").iterdir())


def scores(run: Path) -> dict[str, Any]:
    """The results without what they say of the dataset."""
    found = json.loads((run / "results.json").read_text())
    return {who: found[who] for who in ("trained", "untrained", "pixels", "pca")}


def test_a_converted_file_serves_a_run(command: Callable[..., Any], tmp_path: Path) -> None:
    code, out, errors = command("data", "convert", "digits", "--to", "digits.beton")
    assert code == 0 and "digits.beton: 1437 + 360 images" in out, errors
    low, high = Digits.defaults["views"]["crop"]
    for name, words in {
        "memory": ["-d", "digits"],
        "ffcv": ["-d", "beton:digits.beton", "--loader", "ffcv"],
        "mapped": ["-d", "beton:digits.beton"],
    }.items():
        views = ["-s", "views=standard", "-s", f"views.crop={low},{high}"]
        settings = ["-s", "encoder=mlp", "-s", "encoder.hidden=8", *views, "--subset", "200", "-o", name]
        code, _, errors = command(
            "run", "-p", "simclr", "--epochs", "1", *words, *settings, "-e", "knn", "--device", "cpu"
        )
        assert code == 0 and "converted" not in errors, errors
    assert digest(tmp_path / "memory") == digest(tmp_path / "ffcv") == digest(tmp_path / "mapped")
    results = [scores(tmp_path / name) for name in ("memory", "ffcv", "mapped")]
    assert results[0] == results[1] == results[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    beton.write([gradients(20)], tmp_path / "x.beton", "raw", 95)
    return tmp_path / "x.beton"


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:100], lambda b: b"no beton" * 500])
def test_a_damaged_file_is_one_line_that_names_it(file: Path, damage: Callable[[bytes], bytes]) -> None:
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"x.beton is not a .beton file written by `sslx data convert`") as error:
        Converted(path=file).load(file.parent, offline=True)
    assert "\n" not in str(error.value)


def test_points_are_refused(opened: Callable[..., FFCV]) -> None:
    with pytest.raises(ConfigError, match="this dataset has floats; use the memory loader"):
        opened(Split(torch.zeros(5, 2, 1, 1)))


def photographs(folder: Path, n: int = 60) -> Path:
    """Noise in images of many sizes, of two classes."""
    generator = torch.Generator().manual_seed(0)
    for i in range(n):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (8 + i, 70 - i, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / "ab"[i % 2] / f"{i}.png")
    return folder


def test_mixed_sizes_end_with_the_same_weights_by_every_way(command: Callable[..., Any], tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photographs")
    code, out, errors = command("data", "convert", f"folder:{folder}", "-s", "dataset.size=16", "--to", "x.beton")
    assert code == 0 and "48 + 12 images" in out, errors
    before = (tmp_path / "x.beton").read_bytes()
    for to, message in (("x.beton", "exists, and nothing is overwritten"), ("x.beton/y.beton", "is not a folder")):
        code, _, errors = command("data", "convert", f"folder:{folder}", "-s", "size=8", "--to", to)
        assert code == 2 and message in errors and errors.count("\n") == 1
    assert (tmp_path / "x.beton").read_bytes() == before
    shared = ["-p", "simclr", "-s", "encoder.hidden=8", "-s", "views.crop=0.2,1", "--epochs", "2", "--batch-size", "16"]
    files = ["-d", f"folder:{folder}", "-s", "dataset.size=16"]
    ways = {
        "memory": files,
        "lazy": [*files, "-s", "dataset.memory=0"],
        "ffcv": [*files, "-l", "ffcv", "-s", "loader.cache=cache"],
        "lazy-ffcv": [*files, "-s", "dataset.memory=0", "-l", "ffcv", "-s", "loader.cache=cache"],
        "beton": ["-d", "beton:x.beton", "-l", "ffcv"],
    }
    for name, words in ways.items():
        code, _, errors = command("run", *shared, *words, "-o", name, "-e", "knn", "--device", "cpu")
        assert code == 0, errors
    assert len({digest(tmp_path / name) for name in ways}) == 1
    first, *others = (scores(tmp_path / name) for name in ways)
    assert all(other == first for other in others)
    (square,) = {size for path in folder.rglob("*.png") if (size := Image.open(path).size)[0] == size[1]}
    assert square[0] != 16  # so all sizes were recorded


def test_a_converted_set_keeps_labels_sizes_and_what_belongs_together_whatever_its_storage(tmp_path: Path) -> None:
    train, test = Folder(path=photographs(tmp_path / "photographs"), size=16, grey=True).load(tmp_path, offline=True)
    halves = attrs.evolve(train.take(torch.arange(len(train) // 2 * 2)), arity=2), test
    beton.write(halves, tmp_path / "x.beton", "jpeg", 95)
    for found, split in zip(Converted(path=tmp_path / "x.beton").load(tmp_path, offline=True), halves, strict=True):
        assert found.labels is not None and split.labels is not None and torch.equal(found.labels, split.labels)
        assert found.sizes is not None and split.sizes is not None and torch.equal(found.sizes, split.sizes)
        assert found.images.shape == split.images.shape and isinstance(found.images, Lazy)
        assert found.arity == split.arity
        index = torch.arange(len(split)).flip(0)
        read = found.images[index].float()
        assert (read - split.images[index].float()).abs().mean() < 4
        loader = FFCV()
        loader.open(found, CPU)
        (decoded,) = loader.batches([index])
        assert (decoded.float() - read).abs().max() <= 4  # FFCV's decoder of JPEG and Pillow's


#: Trains on a folder under a cap of the memory that this process may add. Prints the memory late in each epoch.
CAPPED = """
import resource, sys
import psutil, torch
import sslx
from sslx.core.training.engine import Engine

loader, images, warm = sys.argv[1:]

def run(path, out, epochs):
    return sslx.run("simclr", dataset={{"use": "folder", "path": path, "size": 128, "memory": 0.01}}, loader=loader, out=out,
        device="cpu", evaluators=["knn"], train={{"epochs": epochs, "batch_size": 32}}, views={{"crop": (0.5, 1.0)}},
        method={{"encoder": {{"use": "mlp", "hidden": [8]}}, "projector": [8]}})

def data():  # private memory that can be written, which is what the cap is of
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))

run(warm, "warm", 1)  # whatever is imported, compiled and started once
resource.setrlimit(resource.RLIMIT_DATA, (data() + {cap}, -1))
batches, process = Engine.batches, psutil.Process()
def told(self, epoch, done):
    for i, views in enumerate(batches(self, epoch, done)):
        if i == 80:
            memory = process.memory_info()
            print("epoch", memory.rss - memory.shared, flush=True)
        yield views
Engine.batches = told
print("score", run(images, "run", 3).results["trained"]["knn"]["scores"]["knn"])
"""


@pytest.mark.skipif(not os.environ.get("SSLX_LONG"), reason="takes a minute; SSLX_LONG=1 runs it")
def test_a_set_three_times_larger_than_memory_trains_through_ffcv(tmp_path: Path) -> None:
    cap = 72_000_000
    n = 3 * cap // (3 * 128 * 128) + 1
    for name, count in {"images": n, "warm": 200}.items():
        for i in range(count):
            path = tmp_path / name / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (128, 128), (i % 251, 100, 250 * (i % 2))).save(path)
    code = CAPPED.format(cap=cap)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment["MALLOC_MMAP_THRESHOLD_"] = "1000000"  # what is freed is given back: the cap is of what is held

    def capped(loader: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / loader).mkdir()
        words = [sys.executable, "-c", code, loader, str(tmp_path / "images"), str(tmp_path / "warm")]
        return subprocess.run(
            words, capture_output=True, text=True, cwd=tmp_path / loader, env=environment, timeout=120
        )

    done = capped("ffcv")
    assert done.returncode == 0, done.stderr
    *epochs, last = done.stdout.splitlines()
    assert len(epochs) == 3 and last.startswith("score") and float(last.split()[1]) > 0.9
    first, _, third = (int(line.split()[1]) for line in epochs)
    assert third - first < 8e6
    refused = capped("memory")  # the same cap, so it is one
    assert refused.returncode == 1 and "images do not fit into memory; use loader=ffcv" in refused.stderr


def test_views_and_two_loaders_work_at_the_same_time(tmp_path: Path) -> None:
    code = f"""
import threading, torch
from pathlib import Path
torch.set_num_threads(2)
from sslx.api import Split
from sslx.data_loaders.loaders.ffcv import FFCV
from sslx.data_loaders.views.standard import Standard
images = torch.randint(0, 256, (2000, 3, 16, 16)).byte()
policy, loaders = Standard(crop=(0.3, 1.0), brightness=0.4), [FFCV(cache=Path({str(tmp_path)!r})) for _ in range(2)]
for loader in loaders:
    loader.open(Split(images), torch.device("cpu"))
right = []
def work(loader):
    for epoch in range(20):
        index = torch.randperm(2000).split(100)
        for i, batch in zip(index, loader.batches(index)):
            right.append(torch.equal(batch, images[i]))
            policy(batch, i, seed=0, epoch=epoch)
threads = [threading.Thread(target=work, args=[loader]) for loader in loaders]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(right), all(right))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "800 True", done.stderr


def test_a_process_of_several_decodes_with_its_share_of_threads(opened: Callable[..., FFCV]) -> None:
    torch.set_num_threads(1)  # what torchrun and `--devices` give each process on this machine
    assert opened(gradients(20))._threads == 1
