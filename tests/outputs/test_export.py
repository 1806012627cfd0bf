"""What leaves a run computes the same elsewhere, and nothing is overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sslx.api import Context
from sslx.core.training import checkpoint
from sslx.outputs.export import check_weights, export, write_weights
from sslx.outputs.pictures import draw
from sslx.plugins.registry import registry

TIMM = {
    "timm": {"use": "timm:resnet10t", "dim": 5},
    "resnet": {"use": "resnet18", "stem": "imagenet", "dim": 5},
}


@pytest.mark.parametrize("name", ["timm", "resnet"])
@pytest.mark.parametrize("posterior", ["delta", "gaussian"])
def test_timm_loads_an_export_with_equal_outputs(
    name: str, posterior: str, tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    import timm

    encoder = {**TIMM[name], "posterior": posterior}
    run = tiny_run("random", "run", method={"encoder": encoder}, evaluators=[])
    code, output, errors = command("export", "run", "--to", "out")
    assert code == 0 and "makes the latents; largest difference" in output, errors
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(x), run.method().represent(x), atol=1e-5, rtol=1e-5)
        features = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()(x)
        torch.testing.assert_close(features, run.method().encoder.features(x), atol=1e-5, rtol=1e-5)
    assert json.loads((run.path / "export" / "config.json").read_text())["pretrained_cfg"]["num_classes"] == 5


def test_an_export_whose_latents_are_not_the_representation_says_how_timm_makes_it(
    tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    import timm

    run = tiny_run("simclr", "run", method={"encoder": TIMM["timm"]}, evaluators=[])
    code, output, errors = command("export", "run", "--to", "out")
    said = "makes the latents, which are not the representation of SimCLR (with num_classes=0 it makes the features"
    assert code == 0 and said in output, errors
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        features = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True, num_classes=0).eval()(x)
        torch.testing.assert_close(features, run.method().represent(x), atol=1e-5, rtol=1e-5)


def test_what_timm_cannot_express_is_said_in_one_line(tiny_run: Any, command: Any, tmp_path: Path) -> None:
    run = tiny_run("vae", "run", evaluators=[])
    code, output, _ = command("export", "run", "--to", "out")
    assert code == 0 and output.count("\n") == 1
    assert "can only be read by sslx: timm has no network such as MLPEncoder; for other software use" in output
    weights, theirs = load_file(tmp_path / "out" / "model.safetensors"), run.method().encoder.state_dict()
    assert weights.keys() == theirs.keys() and all(torch.equal(weights[name], theirs[name]) for name in weights)
    projected = {"use": "timm:resnet10t", "posterior": {"use": "delta", "projection": [7]}}
    tiny_run("random", "projected", method={"encoder": projected}, evaluators=[])
    code, output, _ = command("export", "projected", "--to", "features")
    assert code == 0 and "makes the features below the posterior" in output and "are not the representation" in output


@pytest.mark.parametrize("method", ["vae", "simclr", "colorization"])
def test_onnx_and_torch_programs_equal_the_method_for_any_number_of_images(
    method: str, tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(40):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    encoder = {"use": "mlp", "hidden": [16]}
    run = tiny_run(method, "run", dataset=f"folder:{folder}", subset=None, evaluators=[], encoder=encoder)
    code, output, errors = command("export", "run", "--to", "out", "--format", "onnx,torch")
    assert code == 0 and output.count("largest difference") == 2, errors
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    assert [each.shape[0] for each in (*session.get_inputs(), *session.get_outputs())] == ["n", "n"]
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for n in (1, 5):
        x = torch.rand(n, 3, 8, 8)
        with torch.no_grad():
            z = run.method().represent(x)
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), z)
        torch.testing.assert_close(program(x), z)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), (1, 4, 5)])  # pooled to 3x3 in equal parts or unequal ones
def test_a_cnn_is_exported_in_every_format(shape: tuple[int, int, int], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    method = registry().resolve("method", "vae").cls(encoder={"use": "cnn"}, decoder={"hidden": [8]})
    method.build(Context(shape, 10))
    method.eval()
    lines = list(export(method, shape, tmp_path / "out", ["onnx", "torch", "safetensors"]))
    assert ["model.onnx" in lines[0], "model.pt2" in lines[1], "can only be read by sslx" in lines[2]] == [True] * 3
    names = ["config.json", "model.onnx", "model.pt2", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_a_format_that_fails_is_one_line_with_its_reason_and_the_others_are_kept(
    tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "from sslx.api import VAE\n\n\n"
        "class Mine(VAE):\n"
        "    def represent(self, x):\n"
        "        return torch.special.bessel_j0(super().represent(x))  # ONNX has none\n"
    )
    networks = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
    tiny_run(f"{file}:Mine", "run", method=networks, evaluators=[])
    code, output, errors = command("export", "run", "--to", "out", "--format", "onnx,torch,safetensors", "--trust-code")
    assert code == 1 and output.count("\n") == 2 and "out/model.pt2" in output and "out: can only be read" in output
    said = [line for line in errors.splitlines() if line.startswith("sslx: ")]
    assert len(said) == 1 and "Mine cannot be exported as onnx: No ONNX function found for" in said[0]
    assert "bessel_j0" in said[0] and said[0].isprintable()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.pt2",
        "model.safetensors",
    ]
    code, output, _ = command("export", "run", "--to", "none", "--format", "onnx", "--trust-code")
    assert code == 1 and not output and not (tmp_path / "none").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_weights_carry_a_hash_and_every_change_of_them_is_named(tmp_path: Path) -> None:
    encoder = registry().resolve("encoder", "mlp").cls(hidden=(4,), dim=2)
    encoder.build(Context((1, 4, 4), 10))
    folder = tmp_path / "export"
    write_weights(encoder, (1, 4, 4), folder)
    assert check_weights(folder) == []
    weights, config = folder / "model.safetensors", folder / "config.json"
    facts = json.loads(config.read_text())["files"]["model.safetensors"]
    content = weights.read_bytes()
    assert facts == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    for file in (weights, config):
        before = file.read_bytes()
        for position in range(0, len(before), max(1, len(before) // 40)):
            flipped = bytearray(before)
            flipped[position] ^= 1
            file.write_bytes(flipped)
            try:
                same = json.loads(flipped) == json.loads(before)  # a flip may only change a space
            except ValueError:
                same = False
            assert same or len(check_weights(folder)) == 1, (file, position)
        file.write_bytes(before[:-5])
        assert len(check_weights(folder)) == 1
        file.unlink()
        assert len(check_weights(folder)) == 1
        file.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(before)
        assert file == config or check_weights(folder) == ["model.safetensors is missing or not a file"]
        file.unlink()
        file.write_bytes(before)
    config.write_text(json.dumps({"architecture": "sslx", "encoder": {}, "image_shape": [1, 4, 4], "sslx": "0.1"}))
    (problem,) = check_weights(folder)
    assert "no hash of the weights" in problem


def test_weights_and_pictures_replace_a_link_and_do_not_write_through_it(tmp_path: Path) -> None:
    encoder = registry().resolve("encoder", "mlp").cls(hidden=(4,), dim=2)
    encoder.build(Context((1, 4, 4), 10))
    folder = tmp_path / "export"
    folder.mkdir()
    outside = {}
    for name, link in (("config.json", os.symlink), ("model.safetensors", os.link), ("samples.png", os.symlink)):
        outside[name] = tmp_path / f"outside-{name}"
        outside[name].write_text("precious")
        link(outside[name], folder / name)
    write_weights(encoder, (1, 4, 4), folder)
    draw(torch.rand(4, 1, 4, 4), folder / "samples.png")
    for name, path in outside.items():
        assert path.read_text() == "precious" and not (folder / name).is_symlink()
        assert (folder / name).stat().st_size > 100
    assert len(list(folder.iterdir())) == 3


def test_an_export_that_computes_something_else_is_not_kept(
    tiny_run: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sslx.ssl_methods.parts.posteriors import DeltaPosterior

    tiny_run("random", "run", method={"encoder": {**TIMM["timm"], "posterior": "delta"}}, evaluators=[])
    wrong = lambda self: (self.point.weight, self.point.bias * 1.1)  # noqa: E731
    monkeypatch.setattr(DeltaPosterior, "linear", wrong)
    code, _, errors = command("export", "run", "--to", "out")
    assert code == 1 and "differs from the trained method by" in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize(
    "command_words", ["export run --to network", "embed run --to z.npz", "embed run --to z.parquet"]
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    command_words: str, tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    if command_words.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    tiny_run("random", "run", evaluators=[])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # what Python says of a longer file is an OSError too
    try:
        code, _, errors = command(*command_words.split())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2 and errors.startswith(f"sslx: {command_words.split()[-1]} cannot be written: ")
    assert "File too large" in errors and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_features_of_a_folder_are_written_with_the_paths_of_their_files(
    tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run = tiny_run("vae", "run", evaluators=[])
    for name in ("cat/a", "cat/b", "dog/a", "dog/b", "dog/c"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name) + ord(name[-1])).integers(0, 255, (9, 13, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    code, output, errors = command("embed", "run", "--data", "folder:photos", "--to", "z.npz")
    assert code == 0 and "5 images, 10 dimensions" in output, errors
    assert errors.endswith("\nimages of folder:photos are read in grey and at 8x8, as those of run\n")
    found = np.load(tmp_path / "z.npz")
    assert sorted(found["path"]) == sorted(str(path) for path in (tmp_path / "photos").rglob("*.png"))
    assert [Path(path).parent.name for path in found["path"]] == [["cat", "dog"][label] for label in found["label"]]
    assert found["class"].tolist() == [Path(path).parent.name for path in found["path"]]
    for path, z in zip(found["path"], found["features"], strict=True):
        # By Pillow alone: grey and of the run's size, though the files are neither.
        grey = np.asarray(Image.open(path).convert("L").resize((8, 8), Image.Resampling.BILINEAR))
        with torch.no_grad():
            expected = run.method().represent(torch.from_numpy(grey / np.float32(255))[None, None])[0]
        np.testing.assert_allclose(z, expected, atol=1e-5)
    code, _, errors = command("embed", "run", "--data", "folder:photos", "--to", "z.parquet")
    table = parquet.read_table(tmp_path / "z.parquet")
    assert code == 0 and table["path"].to_pylist() == found["path"].tolist(), errors
    assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), found["features"])
    assert set(table["split"].to_pylist()) == {"train", "test"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "run", "--out", "run"], "--out: run exists, and nothing is overwritten"),
        (["export", "run", "--to", "x", "--format", "onx"], "there is no 'onx' (did you mean 'onnx'?)"),
        (["embed", "run", "--to", "run/z.toml"], "ends in .npz or .parquet"),
        (["embed", "run", "--to", "old.npz"], "old.npz exists, and nothing is overwritten"),
        (["embed", "run", "--to", "old.npz/z.npz"], "old.npz is not a folder that you may write to"),
        (["export", "run", "--to", "old.npz/network"], "old.npz is not a folder that you may write to"),
        (["embed", "run", "--to", "run"], "'run' is a directory"),
        (["embed", "run", "--to", "x.npz", "--set", "dataset.sise=4"], "dataset.sise: digits has no option"),
        (["embed", "run", "--to", "x.npz", "--data", "folder:none"], "none does not exist or is not a folder"),
        (
            ["embed", "run", "--out", "x.npz", "--dataset", "moons"],
            "--dataset: images are (2, 1, 1), those of run (1, 8, 8)",
        ),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    tiny_run("random", "run", evaluators=[])
    (tmp_path / "old.npz").write_text("old")
    code, _, errors = command(*arguments)
    assert code == 2 and message in errors and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.npz", "run"]


def test_set_is_for_the_dataset_by_name_or_without(tiny_run: Any, command: Any, tmp_path: Path) -> None:
    tiny_run("random", "run", evaluators=[])
    for i in range(5):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("L", (8, 8), 50 * i).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "none.png").write_text("no image")
    for i, key in enumerate(("bad_images", "dataset.bad_images")):
        words = ("--data", "folder:photos", "--set", f"{key}=skip", "--to", f"{i}.npz")
        code, output, errors = command("embed", "run", *words)
        assert code == 0 and "5 images" in output, errors


def test_an_unfinished_run_is_called_that(tiny_run: Any, command: Any, tmp_path: Path) -> None:
    run = tiny_run("random", "run", evaluators=[], train={"epochs": 1})
    words = (("embed", "run", "--to", "z.npz"), ("export", "run", "--to", "network"))
    for i, command_words in enumerate(words):
        code, _, errors = command(*command_words[:-1], f"{i}{command_words[-1]}")
        assert code == 0 and "not finished" not in errors, errors
    (run.path / "results.json").unlink()  # as of one stopped before its evaluation
    step = max(checkpoint.steps(run.path / "checkpoints"))
    for command_words in words:
        code, _, errors = command(*command_words)
        assert code == 0 and f"run: not finished, at step {step}\n" in errors, errors
