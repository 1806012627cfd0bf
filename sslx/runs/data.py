"""The images of a run, and a fingerprint that shows whether they have changed."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from sslx.core.console import say
from sslx.core.data import Split, resized
from sslx.core.errors import ConfigError
from sslx.core.files import plain
from sslx.core.interfaces import Dataset
from sslx.core.options import label, to_dict
from sslx.core.randomness import Use
from sslx.core.training.config import RunConfig
from sslx.core.training.run import Launch
from sslx.core.training.runtime import Runtime

Halves = tuple[Split, Split]  # training and test


def load_data(dataset: Dataset, launch: Launch, runtime: Runtime) -> Halves:
    """Training and test split; the main process loads first, so that a download happens once."""
    loaded = list[Halves]()
    runtime.lead(lambda: loaded.append(dataset.halves(launch.data_dir, launch.offline)))
    halves = loaded[0] if loaded else dataset.halves(launch.data_dir, launch.offline)
    if remark := halves[0].remark():
        say(f"dataset {label(dataset)}: {remark}")
    return halves


def alike(split: Split, shape: Sequence[int]) -> Split:
    """A split with images of the shape (C, H, W): grey or with three equal channels, and resized with antialiasing."""
    C, H, W = shape
    if tuple(split.images.shape[1:]) == (C, H, W):
        return split
    found = list[Tensor]()
    for x in split.batches(torch.device("cpu")):
        x = x if x.shape[1] == C else x.mean(dim=1, keepdim=True).expand(-1, C, -1, -1)
        found.append(resized(x, (H, W)).clamp(0, 1).mul(255).round().to(torch.uint8))
    return attrs.evolve(split, images=torch.cat(found), sizes=None, fresh=None)


def chosen(config: RunConfig, halves: Halves) -> Halves:
    """The halves with the training images that the config asks for: a subset, and none of those for validation."""
    train, test = halves
    n, apart = config.subset, config.validation or 0
    if n is None and not apart:
        return halves
    _check("validation", apart, len(train) - train.arity, train.arity, ", so that images are left for training")
    most = len(train) - apart
    _check(
        "subset",
        most if n is None else n,
        most,
        train.arity,
        ", the number of images" + " without those for validation" * bool(apart),
    )
    order = train.shuffled(Use.SUBSET, config.seed)[:most]
    return train.take(order[:n].sort().values), test


def _check(name: str, n: int, most: int, arity: int, why: str) -> None:
    if n > most:
        raise ConfigError(f"{name}: expected at most {most}{why}, got {n}")
    if n % arity:
        raise ConfigError(f"{name}: expected a multiple of {arity}, as this many images belong together, got {n}")


def watched(config: RunConfig, halves: Halves, scored: Halves) -> Halves:
    """The bank and the queries during training: training and validation images, or else the `scored` ones."""
    if config.train.evaluate.on != "validation":
        return scored
    assert config.validation is not None, "a config without them is refused"
    train, _ = halves
    apart = train.shuffled(Use.SUBSET, config.seed)[-config.validation :]
    return chosen(config, halves)[0], train.take(apart.sort().values)


def facts(train: Split) -> dict[str, Any]:
    """What must be known of the training set to build the method; run.json keeps it."""
    return {"image_shape": tuple(train.images.shape[1:]), "samples": len(train), "arity": train.arity}


def fingerprint(halves: Halves) -> dict[str, dict[str, Any]]:
    """For each half the number of images, and hashes of the labels, of the files and of the pixels in memory.

    Files are known by their names, sizes and times. Their pixels are hashed only where they are in memory anyway.
    """
    return {name: _facts(half) for name, half in zip(("training", "test"), halves, strict=True)}


def identity(dataset: Dataset, data: Halves) -> dict[str, Any]:
    """What results say of the images and labels that were scored. Times of files are left out, as a copy has others."""
    train, test = data
    known = {name: value for name, value in _facts(test).items() if name != "times"}
    sha = _hash([json.dumps(known, sort_keys=True).encode()])
    return {"dataset": plain(to_dict(dataset)), "training": len(train), "test": len(test), "sha256": sha}


def _facts(half: Split) -> dict[str, Any]:
    found: dict[str, Any] = {"images": len(half), "shape": list(half.images.shape[1:])}
    values = [] if half.labels is None else [half.labels]
    values += [half.factors[name] for name in sorted(half.factors)]
    found["labels"] = _hash(_bytes(each) for each in values)
    if half.paths is not None:
        stats = [os.stat(path) for path in half.paths]
        found["names"] = _hash(os.fsencode("/".join(path.parts[-2:]) + "\n") for path in half.paths)
        found["sizes"] = _hash(f"{each.st_size}\n".encode() for each in stats)
        found["times"] = _hash(f"{each.st_mtime_ns}\n".encode() for each in stats)
    if isinstance(half.images, Tensor):
        found["pixels"] = _hash([_bytes(half.images)])
    elif half.paths is None:
        found["source"] = _hash([half.images.source.identity.encode(), _bytes(half.images.index)])
    return found


def _hash(parts: Iterable[Any]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()


def _bytes(values: Tensor) -> memoryview:
    return np.ascontiguousarray(values.cpu().numpy()).data


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, one line for each half.

    Times do not count where the pixels are known to be equal, as in a copy.
    """
    found = []
    for half in before.keys() & now.keys():
        old, new = dict(before[half]), dict(now[half])
        if old["images"] != new["images"]:
            found.append(f"the {half} images are {new['images']}, and were {old['images']}")
            continue
        if "pixels" in old and "pixels" in new and old["pixels"] == new["pixels"]:
            for part in ("names", "sizes", "times"):
                old.pop(part, None)
                new.pop(part, None)
        parts = [part for part in {**old, **new} if part in old and part in new and old[part] != new[part]]
        if parts:
            found.append(f"the {half} images differ in {' and '.join(parts)} from those that the run was made with")
    return sorted(found, reverse=True)
