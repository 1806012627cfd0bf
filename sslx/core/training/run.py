"""A run that exists: its folder, its config, and how it was carried out."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor, nn

from sslx.core.catalogue import catalogue
from sslx.core.data import pixels
from sslx.core.errors import CheckpointError, ConfigError, nearest
from sslx.core.files import misfit
from sslx.core.interfaces import Context, Method
from sslx.core.options import Component, label, listed, options_of, short, to_dict
from sslx.core.randomness import Use, borrowed, seed_of, seed_torch
from sslx.core.training import checkpoint
from sslx.core.training.config import RunConfig, as_before, configure, current
from sslx.core.training.during import Scored
from sslx.core.training.evaluation import chosen
from sslx.core.training.run_folder import RunFolder


def default_data_dir() -> Path:
    """$SSLX_DATA, or a folder in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SSLX_DATA") or cache / "sslx")


def _from_anywhere(trackers: Iterable[Any]) -> tuple[Any, ...]:
    """Each `./file.py:Class` with its whole path, so that `resume` finds it from any folder."""

    def absolute(name: str) -> str:
        path, _, cls = name.rpartition(":")
        return f"{Path(path).expanduser().resolve()}:{cls}" if path.endswith(".py") else name

    return tuple(absolute(each) if isinstance(each, str) else each for each in trackers)


@attrs.frozen
class Launch:
    """How a run is carried out. Nothing here changes what it computes, so it is not part of the config."""

    device: str = "auto"
    devices: int = 1
    data_dir: Path = attrs.field(factory=default_data_dir)
    offline: bool = False
    progress: bool = True
    trackers: tuple[Any, ...] = attrs.field(default=(), converter=_from_anywhere)
    prune: Callable[[Scored], bool] | None = None  # says after an evaluation whether a search gives up the run

    def record(self) -> dict[str, Any]:
        """As run.json keeps it. Trackers that were given as objects, and `prune`, are not repeated."""
        names = [each for each in self.trackers if isinstance(each, str)]
        facts = {name: getattr(self, name) for name in _RECORDED}
        return {**facts, "data_dir": str(self.data_dir.resolve()), "trackers": names}

    @classmethod
    def recorded(cls, facts: Mapping[str, Any]) -> Launch:
        """What `record` returned. Nothing is downloaded to a folder that only the files of a run name."""
        known = {name: value for name, value in facts.items() if name in _RECORDED}
        folder = Path(facts.get("data_dir", default_data_dir()))
        others = folder != default_data_dir().resolve()
        return cls(**{**known, "data_dir": folder, "offline": known.get("offline", False) or others})


_RECORDED = tuple(name for name in attrs.fields_dict(Launch) if name != "prune")


class Run:
    """A run and its folder. To look at its results executes no code that its config names."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig | None = None,
        objects: Sequence[Any] = (),
        trust_code: bool = False,
        checkpoint: int | None = None,
    ) -> None:
        self.folder = folder
        self.trust_code = trust_code  # whether files of code that its config names are executed
        self.checkpoint = checkpoint  # the step of the checkpoint that `method` loads; None: the last one
        self.objects = tuple(listed(objects, "objects"))  # classes and components that its config cannot name
        if config is not None:
            self.__dict__["config"] = config

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run, none of whose code is executed. Raises ConfigError if there is none."""
        return cls(RunFolder.open(path))

    def __repr__(self) -> str:
        scores = [
            f"{name} {next(iter(result['scores'].values())):.4f}"
            for name, result in self.results.get("trained", {}).items()
            if result.get("scores")
        ]
        state = "finished" if self.folder.finished else "not finished"
        return f"<Run {self.path}: {self.name} on {self.dataset}, {', '.join([state, *scores])}>"

    @cached_property
    def config(self) -> RunConfig:
        """Its config with all components. Raises ConfigError if it does not fit what is installed."""
        return self.configured()

    def configured(self, *layers: Mapping[str, Any], evaluators: Mapping[str, Any] | None = None) -> RunConfig:
        """Its config with further layers above it, as `configure` takes them."""
        try:
            base = _given(self.folder.config(), self.objects)
            return recorded(base, *layers, evaluators=evaluators, trust_code=self.trust_code)
        except ConfigError as error:
            used = self.folder.facts().get("components", [])
            others = {f"{c['distribution']} {c['version']}" for c in used if c.get("distribution", "sslx") != "sslx"}
            made = [f"{self.path} was made with {', '.join(sorted(others))}"] if others else []
            raise ConfigError([*error.problems, *made]) from error

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its config as plain values. Raises ConfigError or CheckpointError if it cannot be read."""
        if "config" in self.__dict__:
            return to_dict(self.config)
        found = {**current(self.folder.config())}
        if problem := misfit(found, {"method": {"use": str}, "dataset": {"use": str}, "seed": int}):
            raise CheckpointError(f"{self.path / 'config.toml'}: damaged: {problem}")
        return found

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def name(self) -> str:
        """The short name of its method."""
        return short(self.settings["method"]["use"])

    @property
    def dataset(self) -> str:
        """The short name of its dataset."""
        return short(self.settings["dataset"]["use"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that it is trained on."""
        C, H, W = self.data["image_shape"]
        return C, H, W

    @property
    def likeness(self) -> dict[str, Any]:
        """Options with which datasets that have them read images in the shape of this run's."""
        C, H, W = self.image_shape
        return {**({"grey": C == 1} if C in (1, 3) else {"channels": C}), **({"size": H} if H == W else {})}

    @property
    def data(self) -> dict[str, Any]:
        """What `build` must know of its training images. Raises CheckpointError if there is no run.json."""
        if not (facts := self.folder.facts()):
            raise CheckpointError(f"{self.path}: there is no run.json, without which its method cannot be built")
        return {"arity": 1, **facts["data"]}

    @property
    def results(self) -> dict[str, Any]:
        """`{"trained": {evaluator: {...}}, "untrained": ..., "pixels": ..., "pca": ..., "others": [...]}`.

        Empty while the run is not finished. The others are results on other datasets.
        """
        return self.folder.read("results.json") or {}

    @property
    def training(self) -> dict[str, Any]:
        """Times, and what the losses say: `score`, without labels, the smaller the better, and `diagnosis`."""
        return self.folder.read("training.json") or {}

    @property
    def launch(self) -> Launch:
        """How the run was carried out when it was started."""
        return Launch.recorded(self.folder.facts().get("launch", {}))

    def method(self) -> Method:
        """The trained method, on the CPU, in evaluation mode.

        Raises CheckpointError if there is no checkpoint yet, or if that of a finished run is damaged.
        """
        path = self.trained()
        method = build(self.config, **self.data)
        checkpoint.fill(method, path)
        return method.eval()

    def encoder(self, of: str | None = None) -> nn.Module:
        """The trained network as a plain module, on the CPU, in evaluation mode: images (B, C, H, W) -> (B, D).

        Images are floats in [0, 1], or uint8. The module can be trained further, and moved to any device. It has the
        weights of the encoder alone, unless the representation needs the whole method.

        Args:
            of: "features", "latent", which is the mean of the posterior, or "embedding"; by default what the run is
                evaluated by. An encoder without features gives its latent.

        Raises ConfigError for a representation that the method does not have, and what `method` raises.
        """
        return network(self.method(), of)

    def trained(self) -> Path:
        """The folder of the checkpoint whose weights `method` loads. Raises CheckpointError."""
        if self.checkpoint is not None:
            path = checkpoint.at(self.folder.checkpoints, self.checkpoint)
            checkpoint.verify(path)
            return path
        newest, complaints = checkpoint.newest(self.folder.checkpoints)
        if newest is None:
            raise CheckpointError(f"{self.path}: no checkpoint yet")
        step, last = checkpoint.manifest(newest)["step"], 0
        if self.folder.finished:
            last = self.training.get("images", 0) // self.settings["train"]["batch_size"]
        if not complaints and step < last:
            complaints[newest] = f"{self.folder.checkpoints}: there is no step {last}, with which the training ended"
        if complaints:
            raise CheckpointError(f"{next(iter(complaints.values()))}; --checkpoint {step} uses the one before it")
        return newest


class Network(nn.Module):
    """A part of a method that represents images, as a module of its own. Its state is that of the part."""

    def __init__(self, part: nn.Module, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.part, self.function, self.training = part, function, part.training

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W), floats in [0, 1] or uint8 -> (B, D)."""
        return self.function(self.part, pixels(images))


def network(method: Method, of: str | None = None) -> Network:
    """The network that computes a representation of a built method, by default its own. Raises ConfigError."""
    known, name = method.representations(), chosen(method, of)
    if name not in known:
        raise ConfigError(f"of: {label(method)} has no {name}{nearest(name, known)}")
    function = known[name]
    if isinstance(part := getattr(function, "__self__", None), nn.Module):  # that of the encoder alone, if it is enough
        return Network(part, function.__func__)  # type: ignore[attr-defined]
    return Network(method, lambda method, x: method.representations()[name](x))


def _given(value: Any, objects: Sequence[Any]) -> Any:
    """A recorded config with the classes and components that were given in the place of their references.

    Raises ConfigError if a component has other options than the recorded one.
    """
    found = {catalogue().reference(each if isinstance(each, type) else type(each)): each for each in objects}
    if not isinstance(value, Mapping) or not found:
        return value
    part = found.get(value.get("use", ""))
    if isinstance(part, Component):
        if to_dict(part) != value:
            raise ConfigError(f"objects: {part!r} is not what the run was made with, {dict(value)}")
        return part
    inner = {name: _given(item, objects) for name, item in value.items()}
    return inner if part is None else {**inner, "use": part}


def recorded(
    base: Mapping[str, Any], *layers: Mapping[str, Any], evaluators: Any = None, trust_code: bool = False
) -> RunConfig:
    """`configure` for layers of which the first is from the files of a run. Raises ConfigError.

    Unless the user trusts these files, they name no code to execute and no folder to write to.
    """
    with catalogue().on_record(trust_code):
        config = configure(as_before(base), *layers, evaluators=evaluators, recommend=False)
    places = {name for name, option in options_of(type(config.loader)).items() if option.type in (Path, Path | None)}
    for name in places:
        folder = getattr(config.loader, name)
        if folder is not None and not trust_code:
            raise ConfigError(
                f"loader.{name}: {folder} is named by the files of a run only, so nothing is written there; if you "
                "trust it, add --trust-code (in Python trust_code=True)"
            )
    return config


def build(config: RunConfig, image_shape: Sequence[int], samples: int, arity: int = 1) -> Method:
    """The method with its networks, whose initial weights are a function of the seed alone."""
    C, H, W = image_shape
    method = copy.deepcopy(config.method)  # the config's own is never built, so that it can be built again
    steps = config.train.epochs * (samples // config.train.batch_size)
    with borrowed():
        seed_torch(seed_of(Use.WEIGHTS, config.seed))
        method.build(Context(config.views.shape((C, H, W)), samples, config.views.count, steps, arity))
    return method
