"""The floors of tables: what the pixels and their principal components reach, by the evaluators of a run."""

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sslx.core.data import Split
from sslx.core.errors import SslxError
from sslx.core.files import digest, plain, read, replace, sealed
from sslx.core.interfaces import Context, Dataset, Evaluator, Method
from sslx.core.options import make, to_dict
from sslx.core.team import Team
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
    team: Team | None = None,
) -> dict[str, dict[str, Any]]:
    """Results of both floors, as of a method, by the evaluators that compare with them and scored the run itself.

    Each is computed once for the same images, labels and options, and kept in the user's cache folder.

    Args:
        report: the results of the trained method by evaluator, with the widths of what was scored.
        data: the training and the test images that the evaluators see.
        team: the processes that share the work; they know a floor as its `floor_method`.
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

    @cache
    def built(who: str) -> Method:
        return floor_method(who, data[0]).to(device)

    def scored(who: str, name: str, part: Evaluator) -> dict[str, Any]:
        method, views, seed = built(who), config.views, config.seed
        return score({name: part}, method, data, views, device, seed, load, who, team=team)[name]

    def one(floor: str, width: int, name: str, part: Evaluator) -> dict[str, Any]:
        who = floor if floor == "pixels" else f"{floor}-{width}"
        key = {"evaluator": to_dict(part), "code": _code(type(part)), "images": images, "seed": config.seed}
        key |= {"encoder": to_dict(_floor(who)), "sslx": version("sslx")}
        return _kept(digest(plain(key)), lambda: scored(who, name, part))

    found: dict[str, dict[str, Any]] = {floor: {} for floor in FLOORS}
    for name, (part, widths) in wanted.items():
        alone = make(Evaluator, {**to_dict(part), "use": type(part), "of": ()})
        for floor in FLOORS:
            results = {of: one(floor, width, name, alone) for of, width in widths.items()}
            found[floor][name] = _named(results) | {"options": to_dict(part)}
    return found


def floor_method(who: str, train: Split) -> Method:
    """The method of a floor, `pixels` or `pca-WIDTH`, fitted to the training images."""
    method = _floor(who)
    C, H, W = train.images.shape[1:]
    method.build(Context((C, H, W), len(train)))
    method.begin(train)
    return method


def _floor(who: str) -> Method:
    encoder, _, width = who.partition("-")
    table = {"use": encoder, **({"dim": int(width)} if width else {})}
    return make(Method, {"use": "random", "encoder": table}, owner="sslx")


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
