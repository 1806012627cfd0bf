"""Representations of images as a file."""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sslx.core.catalogue import catalogue
from sslx.core.console import say
from sslx.core.dotted import merge
from sslx.core.errors import ConfigError, DataError
from sslx.core.interfaces import Dataset
from sslx.core.options import make, options_of
from sslx.core.training.evaluation import features
from sslx.core.training.run import Launch, Run
from sslx.core.training.runtime import Runtime

SUFFIXES = (".npz", ".parquet")


def embed(run: Run, data: str | None, options: Mapping[str, Any], launch: Launch, file: Path) -> NDArray[np.float32]:
    """Write `features` (n, D) of both halves of a dataset, `split`, and `label`, `class` and `path` if they are known.

    Args:
        data: reference to a dataset; None is that of the run, with all of its images.
        options: options of the dataset. `size`, `grey` and `channels` are those of the run unless they are given.

    Raises ConfigError if the images differ in shape from those of the run, DataError if the file cannot be written.
    An existing file is replaced.
    """
    if file.suffix not in SUFFIXES:
        raise ConfigError(f"--out: expected a name that ends in {' or '.join(SUFFIXES)}, got {file}")
    if file.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("--out: .parquet needs pyarrow: pip install 'sslx[export]'")
    C, H, W = run.image_shape
    chosen = run.settings["dataset"] if data is None else {"use": data}
    alike = run.likeness
    with catalogue().on_record(run.trust_code):
        dataset = make(Dataset, merge(chosen, options), "dataset", preferred=alike)
    halves = dataset.halves(launch.data_dir, launch.offline)
    if data is not None and (taken := [name for name in alike if name in options_of(type(dataset)).keys() - options]):
        words = {"grey": "in grey" if C == 1 else "in colour", "channels": f"with {C} channels", "size": f"at {H}x{W}"}
        say(f"images of {data} are read {' and '.join(words[name] for name in taken)}, as those of {run.path}")
    if (found := tuple(halves[0].images.shape[1:])) != (C, H, W):
        raise ConfigError(f"--dataset: images are {found}, those of {run.path} {(C, H, W)}")
    runtime = Runtime.start(launch.device)
    method = run.method().to(runtime.device)
    columns: dict[str, NDArray[Any]] = {
        "features": np.concatenate([features(method, half, runtime.device).z.numpy() for half in halves if len(half)]),
        "split": np.repeat(["train", "test"], [len(half) for half in halves]),
    }
    if all(half.labels is not None for half in halves):
        columns["label"] = np.concatenate([half.labels.numpy() for half in halves if half.labels is not None])
        if all(half.classes for half in halves):
            numbers = [(half, k) for half in halves if half.labels is not None for k in half.labels.tolist()]
            columns["class"] = np.array([half.classes[k] for half, k in numbers])
    if all(half.paths is not None for half in halves):
        columns["path"] = np.array([str(path) for half in halves for path in half.paths or ()])
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}")
    try:
        if file.suffix == ".npz":
            np.savez(draft, **columns)  # type: ignore[arg-type]
        else:
            _write_parquet(draft, columns)
        draft.rename(file)
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return columns["features"]


def _utf8(column: NDArray[Any]) -> NDArray[Any]:
    """Text as Parquet takes it: bytes of names that are not UTF-8 are escaped."""
    if column.dtype.kind != "U":
        return column
    return np.array([os.fsencode(text).decode("utf-8", "backslashreplace") for text in column.tolist()])


def _write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    import pyarrow
    from pyarrow import parquet

    z = columns["features"]
    arrays: dict[str, Any] = {
        name: pyarrow.array(_utf8(column)) for name, column in columns.items() if column.ndim == 1
    }
    arrays["features"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(z.ravel()), z.shape[1])
    parquet.write_table(pyarrow.table(arrays), path)
