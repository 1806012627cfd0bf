"""Weights with which a run begins: those of another run, of a safetensors file or of a timm model."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.errors import ConfigError
from sslx.core.interfaces import Method
from sslx.core.training import checkpoint
from sslx.core.training.run import Run
from sslx.core.training.run_folder import RunFolder


def begin_with(method: Method, source: str) -> dict[str, Any]:
    """Give a built method all weights of a source that have the name and shape of one of its own.

    Args:
        source: the folder of a run, a .safetensors file or a folder with model.safetensors, or `timm:NAME`. The weights
            of a run are those of the whole method, others are those of the encoder.

    Returns:
        Where the weights are from, their hash, and the names of the method's parts that kept initial weights.

    Raises:
        ConfigError: there is no such source, or nothing in it fits.
    """
    found, whole = _read(source)
    target: nn.Module | None = method if whole else getattr(method, "encoder", None)
    if target is None:
        raise ConfigError(f"weights: {type(method).__name__} has no encoder, expected the folder of a run")
    own = target.state_dict()
    taken = {name: value for name in own if (value := _fitting(name, own[name], found)) is not None}
    if not taken:
        raise ConfigError(
            f"weights: none of the {len(found)} weights of {source} has the name and shape of a weight here"
        )
    target.load_state_dict(taken, strict=False)
    sha = hashlib.sha256()
    for value in taken.values():
        sha.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    left = sorted({name.split(".")[0] for name in own.keys() - taken.keys()})
    return {"from": source, "sha256": sha.hexdigest(), "taken": len(taken), "of": len(own), "initial": left}


def _fitting(name: str, mine: Tensor, found: dict[str, Tensor]) -> Tensor | None:
    """The weight of a source for `name`, whose own name may lack the first parts of it."""
    parts = name.split(".")
    names = (".".join(parts[i:]) for i in range(len(parts)))
    return next((found[each] for each in names if each in found and found[each].shape == mine.shape), None)


def _read(source: str) -> tuple[dict[str, Tensor], bool]:
    """The weights of a source by name, and whether they are those of a whole method."""
    if source.startswith("timm:"):
        import timm

        name = source.removeprefix("timm:")
        if not timm.is_model(name):
            raise ConfigError(f"weights: timm has no model {name!r}")
        try:
            return timm.create_model(name, pretrained=True).state_dict(), False
        except Exception as error:  # no network, no weights for this model
            raise ConfigError(f"weights: {source} cannot be had: {' '.join(str(error).split())[:200]}") from error
    path = Path(source).expanduser()
    if (path / "config.toml").is_file():
        shared, _ = checkpoint.load(Run(RunFolder.open(path)).trained())
        return shared["method"], True
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        raise ConfigError(f"weights: expected the folder of a run, a .safetensors file or timm:NAME, got {source}")
    from safetensors.torch import load

    try:
        return load(file.read_bytes()), False
    except Exception as error:
        raise ConfigError(f"weights: {file} cannot be read: {' '.join(str(error).split())[:200]}") from error
