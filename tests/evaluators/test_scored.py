"""What is scored: which representation, beside which floors, of which images, with which weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sslx
from sslx.api import Context, Delta, Encoder, Split, option
from sslx.core.errors import ConfigError
from sslx.core.training.evaluation import features
from sslx.core.training.run import Launch, build
from sslx.core.training.runtime import Runtime
from sslx.runs.data import chosen, load_data
from sslx.runs.session import evaluate_model, open_run

TINY_TRAINING = {"epochs": 1, "batch_size": 16}


def halves(run: Any) -> tuple[Split, Split]:
    return chosen(run.config, load_data(run.config.dataset, run.launch, Runtime.start("cpu")))


class Blind(Encoder):
    """An encoder whose distribution is all that it offers."""

    ignored = frozenset({"posterior"})

    def build(self, ctx: Context) -> Context:
        self.layer = torch.nn.Linear(int(np.prod(ctx.image_shape)), self.dim)
        return ctx.but(latent=self.dim)

    def forward(self, x: torch.Tensor) -> Delta:
        return Delta(self.layer(x.flatten(1)))


@pytest.fixture(scope="module")
def simclr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    small: dict[str, Any] = {"encoder": {"hidden": [16]}, "projector": [8, 8]}

    return sslx.run(
        "simclr",
        dataset="digits",
        subset=100,
        train=TINY_TRAINING,
        evaluators={"knn": {"of": ["features", "latent", "embedding"]}, "linear": {}},
        out=tmp_path_factory.mktemp("scored") / "run",
        **small,
    )


def test_each_representation_is_the_layer_of_its_name(simclr: Any) -> None:
    method, (train, _) = simclr.method(), halves(simclr)
    x = train.images.float() / 255
    with torch.no_grad():
        h = method.encoder.features(x)
        z = method.encoder.posterior(h).mean
        expected = {"features": h, "latent": z, "embedding": method.head(z)}
    for name, value in expected.items():
        assert torch.allclose(features(method, train, torch.device("cpu"), of=name).z, value, atol=1e-6), name
    assert torch.equal(method.represent(x), expected["features"])


def test_several_representations_are_columns_and_each_says_what_it_is(simclr: Any) -> None:
    knn, linear = (simclr.results["trained"][name] for name in ("knn", "linear"))
    assert list(knn["scores"])[:3] == ["knn@features", "knn@latent", "knn@embedding"]
    assert knn["of"] == {"features": 16, "latent": 10, "embedding": 8}
    assert linear["of"] == {"features": 16} and linear["summary"].startswith("features of 16 dimensions; ")


def test_the_floors_are_those_that_scikit_learn_finds(simclr: Any) -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    train, test = halves(simclr)
    x, q = (half.images.flatten(1).numpy() / 255.0 for half in (train, test))
    y, t = train.labels.numpy(), test.labels.numpy()
    pca = PCA(10, svd_solver="full").fit(x)
    pixels, components = (simclr.results[floor]["knn"] for floor in ("pixels", "pca"))
    assert components["of"] == {"features": 16, "latent": 10, "embedding": 8}
    for scores, bank, queries in (
        (pixels["scores"], x, q),
        (components["scores"], pca.transform(x), pca.transform(q)),
    ):
        best = max(KNeighborsClassifier(k).fit(bank, y).score(queries, t) for k in range(1, 16))
        assert scores["knn-best-on-test@latent"] == pytest.approx(best, abs=0.003)  # ties in another order
    assert simclr.results["pixels"]["linear"]["scores"]["linear"] > 0.5
    assert LogisticRegression(max_iter=1000).fit(x, y).score(q, t) > 0.5


def test_floors_are_computed_once_for_the_same_images(
    simclr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sslx.runs import floors as module

    computed: list[str] = []
    whole = module.score
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(
        module, "score", lambda parts, *rest, **more: computed.extend(parts) or whole(parts, *rest, **more)
    )
    data = halves(simclr)

    def floors() -> Any:
        return module.floors(simclr.config, simclr.results["trained"], data, torch.device("cpu"), lambda each: data)

    first = floors()
    assert sorted(computed) == ["knn"] * 4 + ["linear"] * 2  # pixels once, and the components for each width
    assert json.dumps(floors(), sort_keys=True, default=str) == json.dumps(first, sort_keys=True, default=str)
    assert len(computed) == 6
    (tmp_path / "cache" / "sslx" / "floors").joinpath("damaged.json").write_text("{")
    for file in (tmp_path / "cache" / "sslx" / "floors").glob("*.json"):
        file.write_text(file.read_text()[:-3])
    assert floors()["pixels"]["knn"]["scores"] == first["pixels"]["knn"]["scores"]
    assert len(computed) == 12  # what was damaged is computed again


def test_the_table_has_the_floors_and_says_which_are_beaten(simclr: Any) -> None:
    from sslx.outputs.tables import tables

    (table,) = tables([simclr])
    assert [row.name for row in table.rows] == ["simclr", "untrained encoder", "pixels", "pca"]
    (line,) = [note for note in table.notes if note.startswith("linear: simclr is ")]
    own = table.rows[0].cells["linear"].mean
    for row, words in zip(table.rows[1:], ("its untrained encoder", "pixels", "pca"), strict=True):
        before, _, after = line.partition("not above")
        assert words in (before if own > row.cells["linear"].mean else after), line


def test_an_encoder_without_features_gives_its_latent_and_says_so(tmp_path: Path) -> None:
    run = sslx.run(
        "simclr",
        encoder=Blind,
        dataset="digits",
        subset=100,
        train=TINY_TRAINING,
        evaluators="knn",
        out=tmp_path / "run",
    )
    result = run.results["trained"]["knn"]
    assert result["of"] == {"latent": 10} and "as the encoder has no features" in result["summary"]


def test_without_a_last_layer_the_features_are_the_latent(tmp_path: Path) -> None:
    run = sslx.run(
        "simclr", dataset="digits", subset=100, train=TINY_TRAINING, evaluators="knn", out=tmp_path / "run",
        encoder={"use": "mlp", "hidden": [16], "dim": 0}, projector=[8],
    )  # fmt: skip
    method, (train, _) = run.method(), halves(run)
    x = train.images.float() / 255
    assert torch.equal(method.encoder(x).mean, method.encoder.features(x))
    assert not list(method.encoder.posterior.parameters()) and method.head[0].in_features == 16
    with pytest.raises(ConfigError, match="encoder.dim: 0 leaves out the last layer"):
        sslx.run("vae", dataset="digits", encoder={"dim": 0}, out=tmp_path / "other")


def test_a_method_without_a_projector_has_no_embedding(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="VAE has no projector, expected features or latent"):
        sslx.run("vae", representation="embedding", train=TINY_TRAINING, out=tmp_path / "run")
    run = sslx.run(
        "vae", dataset="digits", subset=100, train=TINY_TRAINING, evaluators={"knn": {"of": ["embedding"]}},
        out=tmp_path / "other", encoder={"hidden": [16]}, decoder={"hidden": [16]},
    )  # fmt: skip
    assert run.results["trained"]["knn"]["skipped"] == "the method has no embedding"


def test_a_run_that_was_made_before_there_was_a_choice_keeps_its_latent(simclr: Any, tmp_path: Path) -> None:
    import shutil

    from sslx.core.toml import dumps, read
    from sslx.core.training.run_folder import RunFolder

    old = shutil.copytree(simclr.path, tmp_path / "old")
    config = read(old / "config.toml")
    for table, name in ((config["method"], "representation"), (config, "eval_dataset")):
        del table[name]
    (old / "config.toml").write_text(dumps(config))
    facts = RunFolder(old).facts()
    RunFolder(old).write("run.json", facts | {"config": config})
    run = open_run(old)
    assert run.config.method.representation == "latent"
    assert simclr.config.method.representation == "features"
    assert sslx.evaluate(run, "linear").results["trained"]["linear"]["of"] == {"latent": 10}


def test_other_images_and_other_labels_have_results_of_their_own(tiny_run: Callable[..., Any], tmp_path: Path) -> None:
    from sslx.outputs.tables import tables

    run = tiny_run("simclr", "run")
    before = run.results
    images = torch.randint(256, (60, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    class Other(sslx.api.Dataset):
        """Colour images of another size, with classes that are brightness."""

        classes: int = option(default=2, gt=1, help="Number of classes.")

        def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
            labels = torch.arange(60) % self.classes
            shade = (labels * (255 // self.classes)).to(torch.uint8)[:, None, None, None]
            bright = (images // 4 + shade).clamp(max=255)
            return Split(bright[:40], labels[:40]), Split(bright[40:], labels[40:])

    for classes in (2, 4, 4):
        sslx.evaluate(run, "knn,linear", dataset={"use": Other, "classes": classes})
    results = open_run(run.path).results
    assert {key: results[key] for key in before} == before  # its own stay
    two, four = results["others"]
    assert [each["data"]["dataset"]["classes"] for each in (two, four)] == [2, 4]
    assert two["data"]["test"] == 20 and two["trained"]["linear"]["scores"]["linear"] > 0.9
    assert "scores" in two["untrained"]["linear"] and "scores" in two["pixels"]["knn"]
    names = [table.dataset for table in tables([open_run(run.path)])]
    assert len(names) == 3 and len(set(names)) == 3


def test_unlabelled_training_and_labelled_scores_are_one_run(tmp_path: Path) -> None:
    from sslx.outputs.tables import tables

    class Unlabelled(sslx.api.Dataset):
        def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
            from sslx.data_loaders.datasets.digits import Digits

            train, test = Digits().load(folder, offline)
            return Split(train.images[:200]), Split(test.images[:50])

    run = sslx.run(
        "simclr", dataset=Unlabelled, eval_dataset="digits", train=TINY_TRAINING, evaluators="knn", out=tmp_path / "run",
        encoder={"hidden": [16]}, projector=[8],
    )  # fmt: skip
    result = run.results
    assert result["data"]["dataset"] == {"use": "digits"} and result["data"]["training"] == 1437
    assert result["trained"]["knn"]["protocol"]["bank"] == 1437 and run.data["samples"] == 200
    assert tables([run])[0].dataset == "digits"


def test_weights_in_a_file_are_scored_as_in_the_run_that_wrote_them(simclr: Any, tmp_path: Path) -> None:
    launch = Launch("cpu")
    alone = evaluate_model(
        str(simclr.path / "export" / "model.safetensors"), {"linear": {}}, "digits", {}, launch, tmp_path / "alone"
    )
    x = halves(simclr)[0].images.float() / 255
    assert torch.equal(alone.method().represent(x), simclr.method().represent(x))
    assert alone.name == "random" and alone.results["untrained"]["linear"] != alone.results["trained"]["linear"]
    with pytest.raises(ConfigError, match="has no weight .* and lacks"):
        evaluate_model(
            str(simclr.path / "export" / "model.safetensors"), {"linear": {}}, "digits", {"hidden": [16, 16]}, launch,
            tmp_path / "other",
        )  # fmt: skip


def test_a_model_of_timm_gets_images_as_timm_prepares_them(tmp_path: Path) -> None:
    import timm
    from PIL import Image
    from safetensors.torch import save_file

    name = "test_resnet.r160_in1k"
    reference = timm.create_model(name, num_classes=0).eval()
    weights = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in reference.state_dict().items()}, weights)

    class Few(sslx.api.Dataset):
        def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
            x = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
            return Split(x[:4], torch.arange(4) % 2), Split(x[4:], torch.arange(2))

    run = evaluate_model(
        str(weights), {"knn": {"neighbours": 1}}, Few,
        {"use": f"timm:{name}", "preprocess": True}, Launch("cpu"), tmp_path / "run",
    )  # fmt: skip
    encoder = run.method().encoder
    images = torch.randint(256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool2d(images.float(), 9, 1, 4).round().to(torch.uint8)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=reference))
    expected = reference(torch.stack([transform(Image.fromarray(x.permute(1, 2, 0).numpy())) for x in smooth]))
    found = encoder.features(smooth.float() / 255)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.999  # PIL rounds to 256 levels


def test_the_untrained_method_is_that_of_the_run_on_other_data_too(simclr: Any) -> None:
    method = build(simclr.config, **simclr.data)
    again = build(simclr.config, **simclr.data)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(method.eval().represent(x), again.eval().represent(x))


def test_weights_of_timm_are_never_downloaded_offline(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    code, _, errors = command("eval", "--model", "timm:resnet18", "-e", "knn", "--offline")
    assert code == 2
    assert errors.strip().splitlines()[-1] == (
        "sslx: weights: timm:resnet18 cannot be had: it is not in the cache, and --offline downloads nothing"
    )
    pretrained = ["--set", "encoder=timm:resnet18", "--set", "encoder.pretrained=true"]
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    code, _, errors = command("run", "-p", "random", *pretrained, "--offline", "--subset", "60")
    assert code == 2 and not constants.HF_HUB_OFFLINE
    (line,) = errors.strip().splitlines()
    assert line.startswith("sslx: encoder.pretrained: no weights of timm:resnet18 on this computer, and none to downl")
