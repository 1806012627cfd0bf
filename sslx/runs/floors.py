"""The floors of tables: what the pixels and their principal components reach, by the evaluators of a run."""

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sslx.core.data import Split
from sslx.core.errors import SslxError
from sslx.core.files import digest, plain, read, replace, sealed
from sslx.core.interfaces import Context, Dataset, Evaluator, Method
from sslx.core.options import make, to_dict
from sslx.core.training.config import RunConfig
from sslx.core.training.evaluation import evaluate as score
from sslx.core.training.run_folder import RESULT
from sslx.runs.data import fingerprint

FLOORS = ("pixels", "pca")
_LARGEST = 64  # pixels of height or width, beyond which pixels are hardly a representation

Halves = tuple[Split, Split]


def floors(
    config: RunConfig,
    report: Mapping[str, Any],
    data: Halves,
    device: torch.device,
    load: Callable[[Dataset], Halves],
) -> dict[str, dict[str, Any]]:
    """Results of both floors, as of a method, by the evaluators that compare with them and scored the run itself.

    Each is computed once for the same images, labels and options, and kept in the user's cache folder.

    Args:
        report: the results of the trained method by evaluator, with the widths of what was scored.
        data: the training and the test images that the evaluators see.
    """
    wanted = {
        name: (part, report[name]["of"])
        for name, part in config.evaluators.items()
        if part.floors and report.get(name, {}).get("of")
    }
    if not wanted:
        return {}
    if max(data[0].images.shape[-2:]) > _LARGEST:
        reason = {"skipped": f"the images are larger than {_LARGEST} pixels"}
        return {floor: dict.fromkeys(wanted, reason) for floor in FLOORS}
    images = digest(fingerprint(data))

    def one(floor: str, width: int, name: str, part: Evaluator) -> dict[str, Any]:
        encoder = {"use": floor, **({"dim": width} if floor == "pca" else {})}
        method: Method = make(Method, {"use": "random", "encoder": encoder}, owner="sslx")
        key = {"evaluator": to_dict(part), "code": _code(type(part)), "images": images, "seed": config.seed}
        key |= {"encoder": to_dict(method), "sslx": version("sslx")}
        return _kept(digest(plain(key)), lambda: _scored(method, name, part, config, data, device, load))

    found: dict[str, dict[str, Any]] = {floor: {} for floor in FLOORS}
    for name, (part, widths) in wanted.items():
        alone = make(Evaluator, {**to_dict(part), "use": type(part), "of": ()})
        for floor in FLOORS:
            results = {of: one(floor, width, name, alone) for of, width in widths.items()}
            found[floor][name] = _named(results) | {"options": to_dict(part)}
    return found


def _scored(
    method: Method,
    name: str,
    part: Evaluator,
    config: RunConfig,
    data: Halves,
    device: torch.device,
    load: Callable[[Dataset], Halves],
) -> dict[str, Any]:
    C, H, W = data[0].images.shape[1:]
    method.build(Context((C, H, W), len(data[0])))
    method.begin(data[0])
    report = score({name: part}, method.to(device), data, config.views, device, config.seed, load, "the floors'")
    return report[name]


def _named(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Results by the name of the run's representation that they are as wide as, as one; as `evaluate` names scores."""
    (first, *others) = results.values()
    if not others or any("scores" not in result for result in results.values()):
        return first
    scores = {f"{key}@{of}": result["scores"][key] for key in first["scores"] for of, result in results.items()}
    widths = {of: next(iter(result["of"].values())) for of, result in results.items()}
    return first | {"scores": scores, "of": widths, "summary": "; ".join(each["summary"] for each in results.values())}


def _code(cls: type) -> str:
    """Hash of the file of an evaluator, whose change makes what was kept worthless."""
    try:
        return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # of a notebook
        return ""


def _kept(key: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result under this key in the cache folder, or a new one, which is kept there if it has scores."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sslx" / "floors"
    path = folder / f"{key}.json"
    with suppress(SslxError, OSError):  # damaged, or of somebody else: it is computed again
        if (found := read(path, RESULT)) is not None and "scores" in found:
            return found
    result = compute()
    if "scores" in result:
        with suppress(OSError):  # a cache that cannot be written is none
            folder.mkdir(parents=True, exist_ok=True)
            replace(path, sealed(result))
    return result
