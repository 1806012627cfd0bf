"""The options of a run. `RunConfig` is what config.toml holds, and what `sslx run` and `sslx.run` fill in."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from sslx.core.catalogue import catalogue
from sslx.core.dotted import flatten, merge, nest
from sslx.core.errors import ConfigError, PluginError
from sslx.core.interfaces import Dataset, Evaluator, Loader, Method, Module, Optimizer, ViewPolicy
from sslx.core.options import Component, interface_of, make, option, options_of, slot, to_dict
from sslx.core.toml import dumps


class Evaluating(Component):
    """How the representation is scored while the method is trained.

    The bank consists of training images. The queries are held out from the bank, so that no test label is used, or they
    are the images of `validation`, which are not trained on either, or test images. Training uses no labels.
    """

    every: int | None = option(
        default=None, gt=0, help="Number of epochs between evaluations during training; none: no such evaluations."
    )
    evaluators: tuple[str, ...] = option(default=("knn",), help="Evaluators of the run that are used during training.")
    on: Literal["held-out", "validation", "test"] = option(
        default="held-out",
        help="Images that are the queries: training images that are held out from the bank, validation images, which "
        "are not trained on either, or test images.",
    )
    bank: int | None = option(
        default=10_000, gt=0, help="Largest number of training images in the bank, a random sample; none: all."
    )
    queries: int | None = option(
        default=2_000,
        gt=0,
        help="Largest number of queries, a random sample; none: all validation or test images, or a fifth of the "
        "training images, which is the most that is held out.",
    )

    def evaluator_of(self, score: str) -> str | None:
        """The evaluator that a score is of, by its name; None if it is of none of them."""
        for name in self.evaluators:
            if score == name or score.startswith((f"{name}-", f"{name}@", f"{name}.")):
                return name
        return None


class Stopping(Component):
    """When training stops before its last epoch, and which checkpoint is kept as the best."""

    by: str | None = option(
        default=None, help="Score during training that decides, such as knn; none: training uses all epochs."
    )
    patience: int | None = option(
        default=5,
        gt=0,
        help="Number of evaluations without improvement after which training stops; none: it never does, and only the "
        "best checkpoint is kept.",
    )
    improvement: float = option(default=0.0, ge=0, help="Improvement of the best score that counts, if it is larger.")
    prefer: Literal["largest", "smallest"] | None = option(
        default=None,
        help="Which value of the score is the best; none: the smallest if 0 is perfect for its evaluator, otherwise "
        "the largest.",
    )


class Training(Component):
    """How the method is trained."""

    epochs: int = option(default=20, ge=0, help="Number of passes over the training set.")
    batch_size: int = option(default=64, gt=0, help="Number of images per step (N), over all processes.")
    optimizer: Optimizer = slot(default="adam", help="The optimizer, with its learning rate and schedule.")
    clip_norm: float | None = option(
        default=None, gt=0, help="Largest norm of the gradient, to which larger ones are scaled; none: no clipping."
    )
    cpu_seconds: float | None = option(
        default=None, gt=0, help="Processor time after which training stops, whatever the epochs; for equal budgets."
    )
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = option(
        default="fp32",
        help="Precision of the forward pass. With tf32 a GPU may round the factors of float32 matrix products. Both "
        "bf16 and fp16 are autocast, fp16 with a scaled loss.",
    )
    compile: bool = option(default=False, help="Whether the method is compiled with torch.compile.")
    norm: Literal["shared", "local"] = option(
        default="shared",
        help="Batch whose statistics batch normalization has in a training with several processes: the joined batch of "
        "all processes, or the part of each process alone.",
    )
    chunk: int | None = option(
        default=None,
        gt=0,
        help="Number of views that pass through the networks at once, so that a large batch fits into memory; none: "
        "all views. The gradient is that of the whole batch, and each step has a second forward pass.",
    )
    checkpoint_minutes: float = option(
        default=10.0,
        gt=0,
        help="Longest time between checkpoints, in minutes. The first one is written after half a minute, and the time "
        "between two doubles until it has this length.",
    )
    checkpoint_steps: int | None = option(
        default=None, gt=0, help="Steps between further checkpoints; none: no others."
    )
    checkpoint_keep: int = option(
        default=2, ge=2, help="Number of checkpoints that are kept; at least two, as one may be damaged."
    )
    log_every: int = option(default=10, gt=0, help="Steps between two records in metrics.jsonl.")
    evaluate: Evaluating = slot(default=None, help="How the representation is scored during training.")
    stop: Stopping = slot(default=None, help="When training stops early.")

    def __attrs_post_init__(self) -> None:
        if self.compile and self.chunk is not None:
            raise ConfigError("chunk: torch.compile cannot repeat the forward pass of a chunk; expected compile=false")
        if self.stop.by is None:
            return
        if self.evaluate.every is None:
            raise ConfigError("stop.by: needs scores during training; set train.evaluate.every, a number of epochs")
        if self.evaluate.evaluator_of(self.stop.by) is None:
            expected = " or ".join(self.evaluate.evaluators)
            raise ConfigError(f"stop.by: expected a score of an evaluator, such as {expected}, got {self.stop.by!r}")


EVALUATORS = ("knn", "linear")


class RunConfig(Component):
    """Everything that decides what a run computes."""

    method: Method = slot(default=None, help="The method that is trained.")
    dataset: Dataset = slot(default="digits", help="The images that the method is trained and evaluated on.")
    views: ViewPolicy = slot(default="standard", help="How views of an image are made.")
    loader: Loader = slot(default="memory", help="How images reach the device: all in memory, or read from a file.")
    evaluators: dict[str, Evaluator] = slot(
        default=dict.fromkeys(EVALUATORS, {}), help="The evaluators that score the representation."
    )
    eval_dataset: Dataset | None = slot(
        default=None, help="Another dataset, whose images and labels are scored; none: the one that is trained on."
    )
    train: Training = slot(default=None, help="How the method is trained.")
    seed: int = option(default=0, ge=0, lt=1 << 63, help="Seed of everything that is random.")
    subset: int | None = option(
        default=None, gt=0, help="Number of training images, a random sample that depends on the seed; none: all."
    )
    validation: int | None = option(
        default=None,
        gt=0,
        help="Number of random training images, which depend on the seed, that are neither trained on nor in the bank "
        "of an evaluator; train.evaluate.on=validation scores them during training; none: no such images.",
    )
    weights: str | None = option(
        default=None,
        help="Weights with which the training begins: a run, a safetensors file or timm:NAME; none: random ones.",
    )

    def __attrs_post_init__(self) -> None:
        if self.train.evaluate.on == "validation" and self.validation is None:
            raise ConfigError("train.evaluate.on: there are no validation images; set validation, a number of images")
        if self.weights is not None and not self.weights.startswith("timm:"):  # the same from any folder
            self.weights = str(Path(self.weights).expanduser().absolute())

    def __repr__(self) -> str:
        return dumps(to_dict(self))


def layer(values: Mapping[str, Any]) -> dict[str, Any]:
    """`{"prior.variance": 0.1, "train.epochs": 5}` as a layer of a config.

    A key is an option of the method unless it begins with an option of a run: `seed`, `train.epochs`, `views.crop`.
    """
    sections = options_of(RunConfig)
    return nest({key if key.split(".")[0] in sections else f"method.{key}": value for key, value in values.items()})


def unlayer(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config by the keys that `layer` takes."""

    def short(key: str) -> str:
        first, _, last = key.rpartition(".")
        if first == "train.optimizer" and last in _movable():
            return f"train.{last}"
        return key.removeprefix("method.")

    return {short(key): value for key, value in flatten(config).items()}


def evaluator_table(names: Iterable[Any]) -> dict[str, Any]:
    """Evaluators without options, as the config has them: `./file.py:Mine` is the table `{"Mine": {"use": ...}}`."""
    table: dict[str, Any] = {}
    for name in names:
        if not isinstance(name, str | type | Component):
            raise ConfigError(f"evaluators: expected names of evaluators or a table of them, got {name!r}")
        if isinstance(name, str):
            short = name.rpartition(":")[2] if ".py:" in name or "." in name.partition(":")[0] else name
            table[short] = {} if short == name else {"use": name}
        else:
            table[name.__name__ if isinstance(name, type) else type(name).__name__] = name
    return table


def configure(
    *layers: Mapping[str, Any], evaluators: Mapping[str, Any] | Iterable[Any] | None = None, recommend: bool = True
) -> RunConfig:
    """The config from the user's layers, later ones winning, over what dataset and method recommend.

    Raises ConfigError with one line for each mistake in all of it.

    Args:
        evaluators: those to use, names or a table, with the options that the layers give them; by default all that the
            layers name, or the recommended ones if they name none.
        recommend: whether dataset and method recommend settings; False for the complete config of a run.
    """
    user = merge(*map(current, layers))
    recommended, suitable = _recommended(user) if recommend else ({}, dict.fromkeys(EVALUATORS, {}))
    if evaluators is None and "evaluators" not in user:
        evaluators = suitable
    if evaluators is not None:
        evaluators = evaluators if isinstance(evaluators, Mapping) else evaluator_table(evaluators)
        given = user.get("evaluators", {})
        user["evaluators"] = merge(evaluators, {name: given[name] for name in evaluators if name in given})
    config = make(RunConfig, merge(recommended, user))
    assert isinstance(config, RunConfig)
    N = config.train.batch_size
    compared = [part for part in config.method.modules() if isinstance(part, Module) and part.least_images > N]
    if compared and config.train.epochs:
        name, least = type(compared[-1]).__name__, compared[-1].least_images
        raise ConfigError(f"train.batch_size: {name} compares images of a batch, expected at least {least}, got {N}")
    return config


def recommended_evaluators(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The table of evaluators of a config whose layers name none."""
    return _recommended(merge(*map(current, layers)))[1]


def _recommended(user: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layer that dataset and method recommend, and apart from it the table of evaluators.

    These are the ones that the dataset recommends, or else those of any dataset, and the ones that the method adds.
    """
    choice, cls = _method(user)
    dataset, chosen = _dataset(user), user.get("method")
    chosen = chosen if isinstance(chosen, Mapping) else {}
    optimizer = {"use": options_of(Training)["optimizer"].default}  # the one that a recommended rate is for
    suited = {} if dataset is None else _suited(dataset.recommended(), choice, cls, chosen)
    first, second = (dict(current(part, optimizer)) for part in (suited, cls.defaults))
    evaluators = {**first.pop("evaluators", dict.fromkeys(EVALUATORS, {})), **second.pop("evaluators", {})}
    return merge(first, second), evaluators


def as_before(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A complete config of a run; if it was made before methods had a `representation`, with the one they had."""
    _, cls = _method(config)
    method = config.get("method")
    if not isinstance(method, Mapping) or "representation" not in options_of(cls) or "representation" in method:
        return config
    return {**config, "method": {**method, "representation": "latent"}}


def current(layer: Mapping[str, Any], optimizer: Mapping[str, Any] = {}) -> Mapping[str, Any]:
    """A layer with evaluators as a table, and with the options of the optimizer where they belong.

    They may be written beside the other options of training, as `train.lr`. Version 0.1 had all of them there, those of
    every optimizer, and decayed biases as well.
    """
    if not isinstance(layer, Mapping):
        raise ConfigError(f"config: expected a table of options, got {layer!r}")
    if isinstance(names := layer.get("evaluators"), str | list | tuple):
        if isinstance(names, str) and not names.strip(" ,"):
            raise ConfigError(f"evaluators: expected names of evaluators, got {names!r}")
        names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
        layer = {**layer, "evaluators": evaluator_table(names)}
    elif not isinstance(names, Mapping | None):
        raise ConfigError(f"evaluators: expected names of evaluators or a table of them, got {names!r}")
    train = layer.get("train")
    moved = train.keys() & _movable() if isinstance(train, Mapping) else set()
    if not isinstance(train, Mapping) or not moved:
        return layer
    chosen = train.get("optimizer", optimizer)
    if isinstance(chosen, str | type):
        chosen = {"use": chosen}
    mine = {name: train[name] for name in moved}
    for name in sorted(moved & (chosen.keys() if "optimizer" in train and isinstance(chosen, Mapping) else set())):
        if train[name] != chosen[name]:
            raise ConfigError(
                f"train.{name}: is given as {train[name]}, and as {chosen[name]} by train.optimizer.{name}"
            )
    if moved >= _MOVED and chosen.get("use") in ("adam", "adamw", "sgd", "lars"):  # written by version 0.1
        own = options_of(catalogue().resolve("optimizer", chosen["use"], "sslx").cls)
        mine = {name: value for name, value in mine.items() if name in own} | {"decay_vectors": chosen["use"] != "lars"}
    rest = {name: value for name, value in train.items() if name not in moved}
    return {**layer, "train": {**rest, "optimizer": merge({"": chosen}, {"": mine})[""]}}


_MOVED = {"momentum", "betas", "eps"}


def _movable() -> set[str]:
    """Options of an optimizer that may be written beside those of training."""
    return {*options_of(Optimizer), *_MOVED}


def _chosen(part: str, user: Mapping[str, Any]) -> tuple[Any, str]:
    """The component, or the table of one, that will fill `part`; and the package that chose it by default."""
    default = options_of(RunConfig)[part].default
    choice = user.get(part, default)
    if isinstance(choice, Component):
        return choice, ""
    choice = {"use": default, **choice} if isinstance(choice, Mapping) else {"use": choice}
    return choice, "sslx" if choice["use"] == default else ""


def _dataset(user: Mapping[str, Any]) -> Dataset | None:
    """The dataset as it will be; None if it is wrong, which is reported later."""
    choice, owner = _chosen("dataset", user)
    try:
        made = make(Dataset, choice, "dataset", owner=owner)
    except ConfigError:
        return None
    return made if isinstance(made, Dataset) else None


def _method(user: Mapping[str, Any]) -> tuple[Any, type[Component]]:
    """The reference and class of the method; no class if the choice is wrong, which is reported later."""
    choice, owner = _chosen("method", user)
    if isinstance(choice, Component):
        return None, type(choice)
    cls: Any = choice["use"]
    if isinstance(cls, str):
        try:
            cls = catalogue().resolve("method", cls, owner).cls
        except (PluginError, ConfigError):
            cls = None
    return choice["use"], cls if isinstance(cls, type) and issubclass(cls, Component) else Component


def _suited(defaults: Mapping[str, Any], use: Any, method: type[Component], user: Any) -> Mapping[str, Any]:
    """What a dataset recommends. Of its "method", the parts that the chosen method uses and the options that it has.

    An option that the method sets to another default itself is left out: a method without some term sets the weight
    of that term to 0. A part takes the place of the general one, unless the method or the user asks for a certain one.
    An encoder without a last layer is for methods whose features are evaluated.

    Args:
        use: the reference of the method.
        user: the options of the method that the user sets.
    """
    slots = options_of(method) if use is not None and method is not Component else {}
    named = {name for name, part in user.items() if not isinstance(part, Mapping) or "use" in part}
    of_features = "representation" in slots and slots["representation"].default == "features"

    def suits(name: str, part: Any) -> bool:
        own = slots.get(name)
        if own is None or (own.slot is not None) is not isinstance(part, Mapping):
            return False
        components = [c for c in method.__mro__ if issubclass(c, Component) and c is not Component]
        *_, declared = (c for c in components if name in options_of(c))
        is_general = bool(own.default == options_of(declared)[name].default)
        if own.slot is None or not (interface := interface_of(own.type)):
            return is_general
        if part.get("dim") == 0 and (not of_features or "dim" in own.slot):
            return False
        asks = name in named or own.slot.keys() - options_of(interface)  # such as the slope of an mlp
        return bool(own.default == part["use"] or (own.default is not None and is_general and not asks))

    kept = {name: part for name, part in defaults.get("method", {}).items() if suits(name, part)}
    return {**defaults, "method": {"use": use, **kept} if kept else {}}
