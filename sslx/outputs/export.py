"""A trained network for other software: safetensors that timm reads, ONNX, a program of torch.

Every file is read again and its output compared with that of the original, on random images.
"""

import importlib.util
import io
import json
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.errors import ConfigError, DataError, SslxError
from sslx.core.interfaces import Encoder, Method
from sslx.core.options import to_dict

_TOLERANCE = 1e-4  # relative to the largest number: float32 sums are in another order
_PROBES = 3  # images


class _Represent(nn.Module):
    """A module whose forward pass is `represent`, for exporters."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return self.method.represent(images)


@torch.no_grad()
def export(method: Method, shape: Sequence[int], folder: Path, formats: Sequence[str]) -> list[str]:
    """Write a method in evaluation mode, on the CPU, to a new or empty folder. Returns a line on each format.

    Args:
        shape: (C, H, W) of its images.
        formats: names in `FORMATS`.

    Raises SslxError if what was written does not compute the same, or cannot be written.
    """
    C, H, W = shape
    x = torch.rand(_PROBES, C, H, W, generator=torch.Generator().manual_seed(0))
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        lines = [FORMATS[name](method, x, draft) for name in formats]
        draft.chmod(0o755)  # a temporary folder is its owner's alone
        os.replace(draft, folder)  # whole or not at all
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [line.replace(str(draft), str(folder)) for line in lines]


def write_weights(encoder: Encoder, shape: Sequence[int], folder: Path) -> tuple[dict[str, Any], str]:
    """Write `model.safetensors` and `config.json`. Returns the config, and why timm cannot read all of it, if so.

    A network that timm has is written as timm's, and the mean of the posterior as its classifier, if it is linear.
    """
    from safetensors.torch import save

    config: dict[str, Any] = {"architecture": "sslx", "encoder": to_dict(encoder)}
    weights, reason = encoder.state_dict(), ""
    try:
        config, weights = encoder.timm()
        facts: dict[str, Any] = {"mean": [0.0] * shape[0], "std": [1.0] * shape[0], **config["pretrained_cfg"]}
        config["pretrained_cfg"] = facts = {**facts, "input_size": list(shape), "num_classes": 0}
        weight, bias = encoder.posterior.linear()
        weights |= {f"{facts['classifier']}.weight": weight, f"{facts['classifier']}.bias": bias}
        facts["num_classes"] = len(bias)
    except ConfigError as error:
        reason = str(error)
    config |= {"image_shape": list(shape), "sslx": version("sslx")}
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    written = save({name: w.detach().cpu().clone() for name, w in weights.items()})
    (folder / "model.safetensors").write_bytes(written)  # Python's errors say what failed
    return config, reason


def _safetensors(method: Method, x: Tensor, folder: Path) -> str:
    encoder: Encoder | None = getattr(method, "encoder", None)
    if encoder is None:
        raise ConfigError(f"safetensors: {type(method).__name__} has no encoder; expected --format onnx or torch")
    config, reason = write_weights(encoder, x.shape[1:], folder)
    if config["architecture"] == "sslx":
        return f"{folder}: can only be read by sslx: {reason}; for other software use --format onnx or --format torch"
    import timm

    facts = config["pretrained_cfg"]
    mean, std = (torch.tensor(facts[name]).view(-1, 1, 1) for name in ("mean", "std"))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    expected = encoder(x).mean if facts["num_classes"] else encoder.features(x)
    difference = _agree(model((x - mean) / std), expected, folder)
    what = "the latents" if facts["num_classes"] else f"the features below the posterior ({reason})"
    if expected.shape != (z := method.represent(x)).shape or not torch.equal(expected, z):
        what += f", which are not the representation of {type(method).__name__}"
    return f'timm.create_model("local-dir:{folder}", pretrained=True) makes {what}; {difference}'


def _onnx(method: Method, x: Tensor, folder: Path) -> str:
    needed = ("onnx", "onnxscript", "onnxruntime")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{', '.join(missing)} is not installed: pip install 'sslx[export]'")
    import onnxruntime

    path = folder / "model.onnx"
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["representation"], "external_data": False}
    with _exporting(method, "ONNX"), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = _program(method, x)
        torch.onnx.export(program, (x,), path, dynamo=True, verbose=False, **names)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (z,) = session.run(None, {"images": x.numpy()})
    return f"{path}: images -> representation; {_agree(torch.from_numpy(z), method.represent(x), path)}"


def _torch(method: Method, x: Tensor, folder: Path) -> str:
    path = folder / "model.pt2"
    with _exporting(method, "torch.export"):
        torch.export.save(_program(method, x), path)
    z = torch.export.load(path).module()(x)
    return f"torch.export.load({str(path)!r}).module(); {_agree(z, method.represent(x), path)}"


FORMATS: dict[str, Callable[[Method, Tensor, Path], str]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "torch": _torch,
}


def _program(method: Method, x: Tensor) -> Any:
    """The representation of any number of images."""
    return torch.export.export(_Represent(method), (x,), dynamic_shapes=({0: torch.export.Dim("n")},))


@contextmanager
def _exporting(method: Method, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # exporters raise many kinds
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise SslxError(f"{type(method).__name__} cannot be exported by {what}: {first}") from error


def _agree(found: Tensor, expected: Tensor, path: Path) -> str:
    """The largest difference between a written network and the original. Raises SslxError if it is too large."""
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else math.inf
    if not difference <= _TOLERANCE * float(expected.abs().max()):
        raise SslxError(f"{path}: differs from the trained method by {difference:g}, so it was not kept")
    return f"largest difference {difference:.1g}"
