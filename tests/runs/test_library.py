"""Views, scores and networks outside of a run are those of runs, and agree with other implementations."""

from __future__ import annotations

import copy
import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils.data import DataLoader

import sslx
from sslx.api import ConfigError, Context, Method, SslxError, Terms, Views
from sslx.core.data import pixels
from sslx.core.training.run import Run, network
from sslx.runs.data import chosen

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "library").glob("*.py"))
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 3, 30, 40), np.uint8)


# --- views ------------------------------------------------------------------------------------------------------------


class Recorder(Method):
    """Keeps the batches that the engine gives it."""

    def build(self, ctx: Context) -> Context:
        self.weight = nn.Parameter(torch.ones(()))
        return ctx

    def forward(self, views: Views) -> Terms:
        BATCHES.append(views)
        return Terms(size=self.weight.square())

    def represent(self, x: Tensor) -> Tensor:
        return x.flatten(1)


BATCHES: list[Views] = []


def test_views_with_a_key_are_those_of_the_engine(tiny_run: Callable[..., Any]) -> None:
    BATCHES.clear()
    options = {"use": "simclr", "size": 6, "count": 3}
    run = tiny_run(Recorder, "run", seed=5, views=options, evaluators={}, train={"epochs": 2, "batch_size": 32})
    train, _ = chosen(run.config, run.config.dataset.halves(Path(), True))
    views = sslx.views("simclr", size=6, count=3)
    assert len(BATCHES) == 6
    for number, batch in enumerate(BATCHES):
        found = views(train.images[batch.index].numpy(), key=(5, number // 3, batch.index))
        assert torch.equal(found, batch.x.transpose(0, 1))


def test_views_of_any_layout_are_equal() -> None:
    views = sslx.views("simclr", size=24)
    expected = views(COLOUR, key=3)
    assert expected.shape == (2, 5, 3, 24, 24) and expected.dtype == torch.float32
    last = COLOUR.transpose(0, 2, 3, 1)
    read_only = last.copy()
    read_only.flags.writeable = False
    for images in (
        torch.from_numpy(COLOUR),
        torch.from_numpy(COLOUR).double() / 255,
        (COLOUR / 255).astype(np.float32),
        last,
        read_only,
        list(COLOUR),
        tuple(last),
        [Image.fromarray(image) for image in last],
        [Image.fromarray(image).convert("RGBA") for image in last],
    ):
        assert torch.equal(views(images, key=3), expected)
    assert torch.equal(views(COLOUR, key=(3, 0, range(5))), expected)
    assert torch.equal(views(COLOUR[2:4], key=(3, 0, [2, 3])), expected[:, 2:4])
    grey = sslx.views(crop=(0.4, 1.0), hflip=0.5)
    assert torch.equal(grey(COLOUR[:, 0], key=1), grey(COLOUR[:, :1], key=1))
    assert torch.equal(grey([Image.fromarray(image) for image in COLOUR[:, 0]], key=1), grey(COLOUR[:, :1], key=1))


def test_views_agree_with_torch_operations() -> None:
    found, expected = (sslx.views("byol", size=24, backend=backend)(COLOUR, key=1) for backend in ("numba", "torch"))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_images_of_several_sizes_are_cropped_as_they_are() -> None:
    views = sslx.views("simclr", size=16, local={"use": "standard", "size": 8, "count": 3, "crop": (0.1, 0.4)})
    images = [COLOUR[0], COLOUR[1, :, :20], COLOUR[2, 0], COLOUR[3]]
    key = (2, 1, [9, 4, 7, 1])
    found = views(images, key=key)
    assert [tuple(x.shape) for x in found] == [(4, 3, 16, 16)] * 2 + [(4, 3, 8, 8)] * 3
    for i, image in enumerate(images):
        image = image if image.ndim == 3 else np.stack([image] * 3)
        alone = views(image[None], key=(2, 1, [key[2][i]]))  # type: ignore[index]
        assert all(torch.equal(x[i], y[0]) for x, y in zip(found, alone, strict=True))
    with pytest.raises(ConfigError, match=r"^views: images of several sizes have views of 20x40, 30x40; set size"):
        sslx.views("simclr")(images)


def test_without_a_key_views_are_as_random_as_torch() -> None:
    views = sslx.views("simclr", size=8)
    torch.manual_seed(1)
    first, second = views(COLOUR), views(COLOUR)
    torch.manual_seed(1)
    assert torch.equal(views(COLOUR), first) and not torch.equal(first, second)
    state = torch.random.get_rng_state()
    views(COLOUR, key=1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_collate_the_images_of_a_dataset(workers: int) -> None:
    views = sslx.views("simclr", size=16)
    images = [Image.fromarray(image.transpose(1, 2, 0)[: 20 + i]) for i, image in enumerate(COLOUR)]

    def batches() -> list[Any]:
        torch.manual_seed(0)
        dataset: Any = [(image, i, f"{i}.png") for i, image in enumerate(images)]
        return list(DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=views.collate))

    found = batches()
    assert [tuple(x.shape) for x, *_ in found] == [(2, n, 3, 16, 16) for n in (2, 2, 1)]
    assert torch.cat([y for _, y, _ in found]).tolist() == [0, 1, 2, 3, 4] and found[1][2] == ["2.png", "3.png"]
    assert all(torch.equal(x, again) for (x, *_), (again, *_) in zip(found, batches(), strict=True))
    (x,) = DataLoader(torch.from_numpy(COLOUR), batch_size=5, collate_fn=views.collate)  # type: ignore[arg-type]
    assert x.shape == (2, 5, 3, 16, 16)


@pytest.mark.parametrize(
    ("images", "key", "message"),
    [
        (COLOUR.astype(np.float32), None, "floats in [0, 1], or of uint8, got 0 to 255"),
        (np.full((1, 4, 4), np.nan), None, "floats in [0, 1], or of uint8, got nan to nan"),
        (COLOUR.astype(np.int64), None, "of uint8, or of floats in [0, 1], got int64"),
        (COLOUR[0].transpose(1, 2, 0), None, "with C = 1 or 3, got (30, 40, 3); one image x is [x]"),
        (RNG.integers(0, 9, (2, 8, 8, 4), np.uint8), None, "with C = 1 or 3, got (2, 8, 8, 4)"),
        (COLOUR[:0], None, "got (0, 3, 30, 40)"),
        ([], None, "expected at least one image"),
        ([Image.fromarray(np.full((4, 4), 999, np.uint16))], None, "got uint16"),
        ("images", None, "expected an array or a tensor, got str"),
        ({"image": 1}, None, "expected an array or a tensor, got dict"),
        (COLOUR, "seed", "expected key as an integer or as (seed, epoch, index), got 'seed'"),
        (COLOUR, 1.5, "expected key as an integer"),
        (COLOUR, 1 << 70, "expected key as an integer"),
        (COLOUR, (1, 2), "expected key as an integer"),
        (COLOUR, (1, 2, [0.5] * 5), "expected key as an integer"),
        (COLOUR, (1, 2, [0, 1]), "expected the positions of 5 images in key, got (2,)"),
    ],
)
def test_wrong_images_and_keys_are_named(images: Any, key: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        sslx.views("simclr", size=8)(images, key=key)


def test_options_of_views_have_the_messages_of_a_run() -> None:
    for policy, options in (("simclr", {"crp": 1, "size": "big"}), ("nope", {}), ("simclr", {"kernel": 4})):
        with pytest.raises(ConfigError) as of_run:
            sslx.run("random", views={"use": policy, **options})
        with pytest.raises(ConfigError) as here:
            sslx.views(policy, **options)
        assert here.value.problems == of_run.value.problems
    with pytest.raises(ConfigError, match="has its options already, got size beside it"):
        sslx.views(sslx.make("views", "simclr"), size=3)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    evaluators = {
        "knn": {"neighbours": 5, "cosine_neighbours": [10, 20]},
        "linear": {"c": 0.1},
        "probe": {"epochs": 2, "augment": True},
        "geometry": {},
    }
    return sslx.run(
        "simclr", dataset="digits", subset=300, seed=2, views={"crop": (0.5, 1.0)}, encoder={"hidden": [32]},
        evaluators=evaluators, train={"epochs": 1, "batch_size": 50}, out=tmp_path_factory.mktemp("run") / "trained",
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(trained: Run) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    train, test = chosen(trained.config, trained.config.dataset.halves(Path(), True))
    assert isinstance(train.images, Tensor) and isinstance(test.images, Tensor)
    assert train.labels is not None and test.labels is not None
    return train.images, train.labels, test.images, test.labels


def represented(trained: Run, data: Any) -> tuple[Any, Any, Any, Any]:
    network = trained.encoder()
    with torch.no_grad():
        z, q = (network(images).numpy() for images in (data[0], data[2]))
    return z, data[1].numpy(), q, data[3].numpy()


def test_scores_of_a_network_are_those_of_the_run(trained: Run, data: Any) -> None:
    expected, network = trained.results["trained"], trained.encoder().train()
    table, policy = trained.settings["evaluators"], trained.config.views
    found = sslx.score(*data, model=network, evaluators=table, views=policy, seed=2)
    assert found == expected and network.training
    assert found == sslx.score(*data, model=trained.method(), evaluators=table, views=policy, seed=2)
    images = (pixels(data[0]), data[1], pixels(data[2]), data[3])
    once = sslx.score(*images, model=network, evaluators="knn", seed=2)
    for shaped in (data[0][:, 0], data[2][:, 0]), (data[0].movedim(1, 3), data[2].movedim(1, 3)):  # as views takes them
        assert once == sslx.score(shaped[0], data[1], shaped[1], data[3], model=network, evaluators="knn", seed=2)
    assert once["knn"]["scores"].items() >= {("knn", expected["knn"]["scores"]["knn"])}


def test_scores_of_features_are_those_of_the_run(trained: Run, data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    expected, arrays = trained.results["trained"], represented(trained, data)
    found = sslx.score(*arrays, evaluators=trained.settings["evaluators"], seed=2)
    assert {name: found[name] for name in ("knn", "linear")} == {name: expected[name] for name in ("knn", "linear")}
    assert "scores" not in found["probe"] and "ConfigError" in found["geometry"]["failed"]
    assert "score: probe has no scores: " in (said := capsys.readouterr().err) and "also needs model=" in said
    assert set(sslx.score(*map(torch.from_numpy, arrays))) == {"knn", "linear"}
    dino = sslx.score(*arrays, protocol="dino")
    assert set(dino) == {"knn", "probe"} and "knn-10-cosine" in dino["knn"]["scores"]


def test_scores_agree_with_scikit_learn_and_numpy(trained: Run, data: Any) -> None:
    z, y, q, truth = represented(trained, data)
    found = sslx.score(z, y, q, truth, evaluators=trained.settings["evaluators"])
    scaler = StandardScaler().fit(z)
    probe = LogisticRegression(C=0.1, tol=1e-8, max_iter=5000).fit(scaler.transform(z), y)
    assert found["linear"]["scores"]["linear"] == probe.score(scaler.transform(q), truth)

    def vote(order: Any, weights: Any) -> float:
        votes = [np.bincount(y[near], weight, minlength=10) for near, weight in zip(order, weights, strict=True)]
        return float((np.argmax(votes, axis=1) == truth).mean())

    distances = ((q[:, None].astype(np.float64) - z) ** 2).sum(axis=2)
    order = distances.argsort(axis=1, kind="stable")
    assert found["knn"]["protocol"]["test_accuracies"] == [
        vote(o := order[:, :k], np.ones(o.shape)) for k in range(1, 6)
    ]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q.astype(np.float64), z.astype(np.float64))]
    cosine = unit[0] @ unit[1].T
    order = (-cosine).argsort(axis=1, kind="stable")
    for k in (10, 20):
        near = order[:, :k]
        expected = vote(near, np.exp(np.take_along_axis(cosine, near, axis=1) / 0.07))
        assert found["knn"]["scores"][f"knn-{k}-cosine"] == expected


def test_scores_leave_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64).eval(), nn.Dropout())
    x, y = torch.rand(40, 1, 8, 8), torch.arange(40) % 4
    state, random = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    first = sslx.score(x, y, x, y, model=network, evaluators="knn")
    assert first == sslx.score(x.numpy(), y.tolist(), x.numpy(), y.tolist(), model=network, evaluators=["knn"])
    assert [part.training for part in network] == [True, False, True]
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_what_cannot_be_scored_is_named() -> None:
    z, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    wrong: list[tuple[Any, str]] = [
        ((z[None], y, z, y), r"train_x: expected features \(n, D\), got \(1, 20, 3\); images also need model="),
        ((z, y, z[:, :2], y), r"score: train_x and test_x differ in shape, \(3,\) and \(2,\)"),
        ((z, y[:5], z, y), r"train_y: expected integer labels \(20,\), got \(5,\) of torch.int64"),
        ((z, y, z, y / 2), r"test_y: expected integer labels \(20,\), got \(20,\) of torch.float64"),
        ((z, ["a"] * 20, z, y), "train_y: expected an array or a tensor, got list"),
    ]
    for arrays, message in wrong:
        with pytest.raises(ConfigError, match=message):
            sslx.score(*arrays)
    with pytest.raises(ConfigError, match=r"evaluators.knn.k: knn has no option 'k'"):
        sslx.score(z, y, z, y, evaluators={"knn": {"k": 3}})
    with pytest.raises(ConfigError, match="there is no protocol 'dinos'"):
        sslx.score(z, y, z, y, protocol="dinos")
    with pytest.raises(SslxError, match=r"score: knn has no scores: DataError: the representation of train image 0 is"):
        sslx.score(z * np.nan, y, z, y)
    with pytest.raises(SslxError, match=r"Given.represent must return \(20, D\), it returned \(20, 1, 8, 8\)"):
        sslx.score(np.zeros((20, 1, 8, 8)), y, np.zeros((20, 1, 8, 8)), y, model=nn.Identity(), evaluators="knn")


# --- networks ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_an_encoder_is_what_the_method_represents(trained: Run, data: Any) -> None:
    method, images = trained.method(), data[0][:9]
    assert torch.equal(trained.encoder()(images), method.represent(pixels(images)))
    for of, function in method.representations().items():
        found = trained.encoder(of)
        assert torch.equal(found(pixels(images)), function(pixels(images))) and not found.training
        torch.save(found.state_dict(), file := io.BytesIO())
        file.seek(0)
        other = copy.deepcopy(found)
        for weight in other.parameters():
            weight.zero_()
        assert not torch.equal(other(images), found(images))
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(images), found(images))
    assert trained.encoder().state_dict().keys() == {f"part.{name}" for name in method.encoder.state_dict()}
    assert all(weight.requires_grad for weight in trained.encoder().parameters())
    with pytest.raises(ConfigError, match="of: simclr has no output"):
        trained.encoder("output")


class Halves(Recorder):
    def represent(self, x: Tensor) -> Tensor:
        return self.representations()["latent"](x)

    def representations(self) -> dict[str, Any]:
        return {"latent": lambda x: x.flatten(1) * self.weight / 2}


@torch.no_grad()
def test_a_network_has_the_whole_method_if_that_represents_by_itself() -> None:
    images = torch.rand(4, 3, 8, 8)
    for cls in ("colorization", Halves):
        method = sslx.make("method", cls)
        method.build(Context((3, 8, 8), samples=10))
        found = copy.deepcopy(network(method))
        expected = method.represent(images)
        for weight in method.parameters():
            weight.zero_()
        assert torch.equal(found(images), expected)


@torch.no_grad()
def test_what_is_exported_is_loaded(trained: Run, data: Any, tmp_path: Path) -> None:
    file, state = trained.folder.export / "model.safetensors", torch.random.get_rng_state()
    for of in ("features", "latent"):
        expected = trained.encoder(of)(data[2])
        assert torch.equal(sslx.load(file, of=of)(data[2]), expected)
        assert torch.equal(sslx.load(file.parent, of=of)(data[2]), expected)
        assert torch.equal(sslx.load(trained.path, of=of)(data[2]), expected)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(sslx.load(trained.path)(data[2]), trained.encoder()(data[2]))
    network = sslx.load(file)
    assert not network.training and all(weight.requires_grad for weight in network.parameters())
    copied = tmp_path / "mine.safetensors"
    copied.write_bytes(file.read_bytes())
    options = {"use": "mlp", "hidden": [32]}
    loaded = sslx.load(copied, options, image_shape=(1, 8, 8))
    assert torch.equal(loaded(data[2]), trained.encoder("features")(data[2]))


@torch.no_grad()
def test_weights_of_another_program_are_loaded(tmp_path: Path) -> None:
    theirs = timm.create_model("resnet10t", num_classes=0).eval()
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "resnet10t", "tags": ["sslx"]}')
    found = sslx.load(tmp_path / "theirs.safetensors", "timm:resnet10t", image_shape=(3, 40, 40))
    x = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(found(x), theirs(x), atol=1e-5, rtol=1e-5)
    for arguments, message in (
        ({"encoder": "timm:resnet10t"}, r"has no config of sslx beside it; image_shape=\(C, H, W\) says"),
        ({"image_shape": (3, 40, 40)}, "has no config of sslx beside it; --set encoder=NAME says"),
        ({"encoder": "resnet18", "image_shape": (3, 40, 40)}, "has no weight .* expected the weights of this encoder"),
        ({"encoder": "resnte18", "image_shape": (3, 40, 40)}, "there is no encoder 'resnte18'"),
    ):
        with pytest.raises(ConfigError, match=message):
            sslx.load(tmp_path / "theirs.safetensors", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="weights: expected the folder of a run, a .safetensors file or timm:NAME"):
        sslx.load(tmp_path / "nothing.safetensors", "resnet18", image_shape=(3, 40, 40))
    with pytest.raises(ConfigError, match=r"model.onnx: is a program, not weights; onnxruntime or torch.export.load"):
        sslx.load(tmp_path / "model.onnx")
    (tmp_path / "damaged.safetensors").write_bytes(b"1234")
    with pytest.raises(ConfigError, match=r"damaged.safetensors cannot be read"):
        sslx.load(tmp_path / "damaged.safetensors", "resnet18", image_shape=(3, 40, 40))


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(path.read_text().splitlines()) <= 40
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path))
    said = capsys.readouterr().out
    assert said and "False" not in said
    if path.stem == "simclr":
        losses = [float(number) for number in re.findall(r"loss ([\d.]+)", said)]
        assert len(losses) == 6 and losses[-1] < 0.9 * losses[0]


def test_the_program_of_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "howto" / "library.md").read_text()
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, "library.md", "exec"), namespace)
    assert len(EXAMPLES) == 5 and all(f"examples/library/{path.name}" in page for path in EXAMPLES)
