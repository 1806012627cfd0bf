"""Weights with which a run begins: those of another run, of a safetensors file or of a timm model."""

import hashlib
import json
import logging
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslx.core.dotted import merge
from sslx.core.errors import CheckpointError, ConfigError
from sslx.core.files import read
from sslx.core.interfaces import Encoder, Method
from sslx.core.options import make
from sslx.core.training import checkpoint
from sslx.core.training.run import Run
from sslx.core.training.run_folder import RunFolder
from sslx.outputs.export import EXPORTED
from sslx.plugins.registry import registry


def begin_with(method: Method, source: str, offline: bool = False) -> dict[str, Any]:
    """Give a built method all weights of a source that have the name and shape of one of its own.

    Args:
        source: the folder of a run, a .safetensors file or a folder with model.safetensors, or `timm:NAME`. The weights
            of a run are those of the whole method, others are those of the encoder.
        offline: whether weights of timm must be in its cache.

    Returns:
        Where the weights are from, their hash, and the names of the method's parts that kept initial weights.

    Raises:
        ConfigError: there is no such source, nothing in it fits, or a method that is not trained would keep initial
            weights.
    """
    found, whole = _read(source, offline)
    target: nn.Module | None = method if whole else getattr(method, "encoder", None)
    if target is None:
        raise ConfigError(f"weights: {type(method).__name__} has no encoder, expected the folder of a run")
    own = target.state_dict()
    taken = {name: value for name in own if (value := _fitting(name, own[name], found)) is not None}
    if not taken:
        raise ConfigError(
            f"weights: none of the {len(found)} weights of {source} has the name and shape of a weight here"
        )
    missing = [name for name in own if name not in taken]
    if missing and not any(weight.requires_grad for weight in method.parameters()):
        raise ConfigError(
            f"weights: {source} has no weight {missing[0]} of shape {tuple(own[missing[0]].shape)}, and lacks "
            f"{len(missing)} of {len(own)}: expected the weights of this encoder, for images of this shape"
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


def encoder_from(source: str, options: Mapping[str, Any], trust_code: bool, whole: bool = False) -> Encoder:
    """The encoder whose weights a source has, not built. Raises ConfigError if nothing says what it is.

    Args:
        source: as in `begin_with`, but no run.
        options: options of the encoder, with its name under `use` where the file does not come with a config of sslx.
        trust_code: whether a file of code that this config names is executed.
        whole: whether the encoder has its last layer, or only makes features.
    """
    found = {"use": source, "preprocess": True} if source.startswith("timm:") else exported(source).get("encoder", {})
    if not (table := merge({"": found}, {"": options})[""]):
        raise ConfigError(
            f"{source}: has no config of sslx beside it; --set encoder=NAME says what network it is of, in Python "
            "encoder=NAME"
        )
    preferred = {}
    if not whole:
        table = {name: value for name, value in table.items() if name not in ("dim", "posterior")}
        preferred = {"dim": 0, "posterior": "delta"}
    with registry().on_record(trust_code) if found and not source.startswith("timm:") else nullcontext():
        encoder: Encoder = make(Encoder, table, "encoder", preferred=preferred)
    return encoder


def exported(source: str) -> Mapping[str, Any]:
    """The `config.json` that sslx wrote beside weights; empty if there is none, or if another program wrote it.

    Raises ConfigError if there are no such weights.
    """
    if source.startswith("timm:"):
        return {}
    file = _file(source).with_name("config.json")
    if not file.is_file():
        return {}
    text = file.read_text(errors="replace")
    try:
        content = json.loads(text)
        own = isinstance(content, dict) and "sslx" in content
    except ValueError:
        own = '"sslx"' in text  # `read` says that it is damaged
    return read(file, EXPORTED) or {} if own else {}


def _read(source: str, offline: bool) -> tuple[dict[str, Tensor], bool]:
    """The weights of a source by name, and whether they are those of a whole method."""
    if source.startswith("timm:"):
        import timm

        name = source.removeprefix("timm:")
        if not timm.is_model(name):
            raise ConfigError(f"weights: timm has no model {name!r}")
        try:
            with quiet_hub(offline):
                return timm.create_model(name, pretrained=True, num_classes=0).state_dict(), False
        except Exception as error:  # no network, no weights for this model
            reason = "it is not in the cache, and --offline downloads nothing" if offline else _words(error)
            raise ConfigError(f"weights: {source} cannot be had: {reason}") from error
    path = Path(source).expanduser()
    if (path / "config.toml").is_file():
        shared, _ = checkpoint.load(Run(RunFolder.open(path)).trained())
        return shared["method"], True
    file = _file(source)
    from safetensors.torch import load

    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"weights: {file} cannot be read: {error.strerror}") from error
    facts = exported(source).get("files", {}).get(file.name)
    if facts and hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise CheckpointError(f"{file}: damaged: it is not what was written")
    try:
        return load(content), False
    except Exception as error:
        raise ConfigError(f"weights: {file} cannot be read: {_words(error)}") from error


def _file(source: str) -> Path:
    """The .safetensors file that a source names, by itself or by its folder."""
    path = Path(source).expanduser()
    file = path / "model.safetensors" if path.is_dir() else path
    if file.suffix != ".safetensors" or not file.is_file():
        import timm

        hint = f" (did you mean 'timm:{path.name}'?)" if timm.is_model(path.name) else ""
        raise ConfigError(
            f"weights: expected the folder of a run, a .safetensors file or timm:NAME, got {source}{hint}"
        )
    return file


def _words(error: Exception) -> str:
    return textwrap.shorten(str(error), 200, placeholder=" ...")


@contextmanager
def quiet_hub(offline: bool) -> Iterator[None]:
    """Keep the hub, from which timm downloads, from printing each retry; and from any download if `offline`."""
    from huggingface_hub import constants

    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "httpx")]
    before, levels = constants.HF_HUB_OFFLINE, [logger.level for logger in loggers]
    constants.HF_HUB_OFFLINE = before or offline
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
