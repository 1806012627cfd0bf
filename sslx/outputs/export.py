"""A trained network for other software: safetensors that timm reads, ONNX, a program of torch.

Every file is read again and its output compared with that of the original, on random images.
"""

import hashlib
import importlib.util
import io
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.errors import CheckpointError, ConfigError, DataError, SslxError
from sslx.core.files import read, replace, sealed
from sslx.core.interfaces import Encoder, Method
from sslx.core.options import to_dict

_TOLERANCE = 1e-4  # relative to the largest number: float32 sums are in another order
_PROBES = 3  # images
_WEIGHTS = "model.safetensors"
_N = "n"  # the axis that may have any length, of images (n, C, H, W)
EXPORTED: dict[str, Any] = {  # what `files.read` expects; version 0.1 wrote no hash of the weights
    "architecture": str,
    "encoder?": dict,
    "pretrained_cfg?": dict,
    "image_shape": [int],
    "sslx": str,
    "files?": {str: {"size": int, "sha256": str}},
}


class _Represent(nn.Module):
    """A module whose forward pass is `represent`, for exporters."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return self.method.represent(images)


@torch.no_grad()
def export(method: Method, shape: Sequence[int], folder: Path, formats: Sequence[str]) -> Iterator[str]:
    """Write a method in evaluation mode, on the CPU, to a new or empty folder. Yields a line on each format.

    Args:
        shape: (C, H, W) of its images.
        formats: names in `FORMATS`.

    Raises SslxError, once the other formats are written, if a format cannot be written or does not compute the same.
    """
    C, H, W = shape
    x = torch.rand(_PROBES, C, H, W, generator=torch.Generator().manual_seed(0))
    lines: list[str] = []
    errors: list[SslxError] = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as drafts:
            whole = Path(drafts, "whole")
            whole.mkdir()
            for name in dict.fromkeys(formats):
                part = Path(drafts, name)
                part.mkdir()
                try:
                    line = FORMATS[name](method, x, part)
                except OSError:
                    raise
                except SslxError as error:
                    errors.append(error)
                except Exception as error:  # exporters raise many kinds
                    reason = f"{type(method).__name__} cannot be exported as {name}: {_reason(error)}"
                    errors.append(SslxError(reason))
                else:
                    lines.append(line.replace(str(part), str(folder)))
                    for file in part.iterdir():
                        os.replace(file, whole / file.name)
            if lines:
                os.replace(whole, folder)  # at once
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    yield from lines
    if len(errors) == 1 and not lines:
        raise errors[0]
    if errors:
        raise SslxError("\n".join(map(str, errors)))


def _reason(error: BaseException) -> str:
    """The first line of the error that began a chain, without the control characters of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
    return next(iter(text.splitlines()), type(error).__name__)


def write_weights(encoder: Encoder, shape: Sequence[int], folder: Path) -> tuple[dict[str, Any], str]:
    """Write `model.safetensors` and `config.json`. Returns the config, and why timm cannot read all of it, if so.

    A network that timm has is written as timm's, and the mean of the posterior as its classifier, if it is linear.
    """
    from safetensors.torch import save

    config: dict[str, Any] = {"architecture": "sslx", "encoder": to_dict(encoder)}
    weights, reason = encoder.state_dict(), ""
    try:
        own = config["encoder"]
        config, weights = encoder.timm()
        config["encoder"] = own
        facts: dict[str, Any] = {"mean": [0.0] * shape[0], "std": [1.0] * shape[0], **config["pretrained_cfg"]}
        config["pretrained_cfg"] = facts = {**facts, "input_size": list(shape), "num_classes": 0}
        if encoder.dim == 0:
            raise ConfigError("it has no layer above its features")
        weight, bias = encoder.posterior.linear()
        weights |= {f"{facts['classifier']}.weight": weight, f"{facts['classifier']}.bias": bias}
        facts["num_classes"] = len(bias)
    except ConfigError as error:
        reason = str(error)
    written = save({name: w.detach().cpu().clone() for name, w in weights.items()})
    config |= {"image_shape": list(shape), "sslx": version("sslx")}
    config["files"] = {_WEIGHTS: {"size": len(written), "sha256": hashlib.sha256(written).hexdigest()}}
    folder.mkdir(exist_ok=True)
    replace(folder / _WEIGHTS, written)
    replace(folder / "config.json", sealed(config))
    return config, reason


def check_weights(folder: Path) -> list[str]:
    """What is wrong with the files of `write_weights`, in words; empty if they are whole."""
    try:
        config = read(folder / "config.json", EXPORTED)
    except CheckpointError as error:
        return [str(error)]
    if config is None:
        return ["config.json is missing"]
    if "files" not in config:
        return ["config.json has no hash of the weights, as of a run that version 0.1 wrote"]
    problems = []
    for name, facts in config["files"].items():
        file = folder / Path(name).name
        if file.is_symlink() or not file.is_file():
            problems.append(f"{name} is missing or not a file")
        elif file.stat().st_size != facts["size"]:
            problems.append(f"{name} has {file.stat().st_size} bytes, expected {facts['size']}")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != facts["sha256"]:
            problems.append(f"{name} is not what was written")
    return problems


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
    difference = _agree(model((x - mean) / std), expected, "safetensors")
    what = "the latents" if facts["num_classes"] else f"the features below the posterior ({reason})"
    z = method.represent(x)
    if not torch.equal(expected, z):
        what += f", which are not the representation of {type(method).__name__}"
        if facts["num_classes"] and torch.equal(encoder.features(x), z):
            what += " (with num_classes=0 it makes the features, which are)"
    return f'timm.create_model("local-dir:{folder}", pretrained=True) makes {what}; {difference}'


def _onnx(method: Method, x: Tensor, folder: Path) -> str:
    needed = ("onnx", "onnxscript", "onnxruntime")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{', '.join(missing)} is not installed: pip install 'sslx[export]'")
    import onnxruntime

    path = folder / "model.onnx"
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["representation"], "external_data": False}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = _program(method, x).run_decompositions({torch.ops.aten.adaptive_max_pool2d.default: _pooled})
        torch.onnx.export(program, (x,), path, dynamo=True, verbose=False, dynamic_shapes=({0: _N},), **names)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (z,) = session.run(None, {"images": x.numpy()})
    return f"{path}: images -> representation; {_agree(torch.from_numpy(z), method.represent(x), 'onnx')}"


def _torch(method: Method, x: Tensor, folder: Path) -> str:
    path = folder / "model.pt2"
    torch.export.save(_program(method, x), program := io.BytesIO())
    path.write_bytes(program.getbuffer())  # Python's errors say what failed
    z = torch.export.load(path).module()(x)
    return f"torch.export.load({str(path)!r}).module(); {_agree(z, method.represent(x), 'torch')}"


FORMATS: dict[str, Callable[[Method, Tensor, Path], str]] = {
    "safetensors": _safetensors,
    "onnx": _onnx,
    "torch": _torch,
}


def _program(method: Method, x: Tensor) -> Any:
    """The representation of any number of images."""
    return torch.export.export(_Represent(method), (x,), dynamic_shapes=({0: torch.export.Dim(_N)},))


def _pooled(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Adaptive max-pooling by operations that ONNX has. The positions of the maxima are left zero."""
    edges = [
        [(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]
        for length, parts in zip(x.shape[-2:], size, strict=True)
    ]
    maxima = [x[..., top:bottom, left:right].amax(dim=(-2, -1)) for top, bottom in edges[0] for left, right in edges[1]]
    pooled = torch.stack(maxima, dim=-1).unflatten(-1, tuple(size))
    return pooled, torch.zeros_like(pooled, dtype=torch.int64)


def _agree(found: Tensor, expected: Tensor, name: str) -> str:
    """The largest difference between a written network and the original. Raises SslxError if it is too large."""
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else math.inf
    if not difference <= _TOLERANCE * float(expected.abs().max()):
        raise SslxError(f"{name}: differs from the trained method by {difference:g}, so it was not kept")
    return f"largest difference {difference:.1g}"
