"""What is searched and how, as the table `[search]` of a sweep file says it. `trials.py` carries it out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from sslx.core.errors import CheckpointError, ConfigError, Problems
from sslx.core.options import Component, make, option, to_dict
from sslx.core.training.config import RunConfig, layer, unlayer

#: What the score of a trial is measured with, which is the same for all trials.
_FIXED = ("seed", "dataset", "eval_dataset", "evaluators", "subset", "validation", "train.evaluate")
_SPACE = "expected a list of choices or a table such as {low = 1e-4, high = 0.1, log = true}"


class Searching(Component):
    """How options are searched. The score is one during training, of images that no test score is computed on."""

    by: Literal["tpe", "random"] = option(
        default="tpe",
        help="How the options of a trial are chosen: tpe prefers what is near the best trials that have ended, after "
        "ten random trials; random does not.",
    )
    score: str = option(
        default="knn", help="Score during training that is searched by. That of the last evaluation of a trial counts."
    )
    trials: int = option(default=20, gt=0, le=10_000, help="Number of runs.")
    prune: bool = option(
        default=True,
        help="Whether a run is given up after an evaluation if its best score so far is worse than the median of the "
        "finished trials after as many epochs. The first five trials are finished.",
    )
    prefer: Literal["largest", "smallest"] | None = option(
        default=None,
        help="Which value of the score is the best; none: the smallest if 0 is perfect for its evaluator, otherwise "
        "the largest.",
    )
    seed: int = option(default=0, ge=0, lt=1 << 63, help="Seed of the choices; `seed` is that of all runs.")


class Range(Component):
    """Numbers from `low` to `high`; integers if both are written as integers."""

    low: int | float = option(help="The smallest value.")
    high: int | float = option(help="The largest value.")
    log: bool = option(default=False, help="Whether all orders of magnitude are equally likely.")

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise ConfigError(f"low: expected a number < high, which is {self.high!r}, got {self.low!r}")
        if self.log and self.low <= 0:
            raise ConfigError(f"low: expected a number > 0 with log = true, got {self.low!r}")

    @property
    def integers(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def plain(self) -> dict[str, Any]:
        return to_dict(self)


@attrs.frozen
class Choices:
    """Values of any kind. Optuna keeps those that are lists or tables as text."""

    values: list[Any]

    def ends(self) -> list[Any]:
        return self.values

    def plain(self) -> list[Any]:
        return self.values

    def texts(self) -> list[Any]:
        return [value if isinstance(value, str | int | float) else json.dumps(value) for value in self.values]


@attrs.frozen
class Search:
    """How to search, and the values of each option by the keys that `layer` takes."""

    options: Searching
    space: Mapping[str, Range | Choices]

    @classmethod
    def read(cls, table: Any, where: str = "search") -> Search:
        """The search that a table describes. Raises ConfigError with one line for each mistake."""
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where}: expected a table of options with a table `space`, got {table!r}")
        problems, found = Problems(), dict[str, Range | Choices]()
        with problems.collecting():
            options = make(Searching, {key: value for key, value in table.items() if key != "space"}, where)
        space = table.get("space", {})
        if not isinstance(space, Mapping) or not space:
            problems.append(f"{where}.space: expected a table with the values of each option, got {space!r}")
            space = {}
        for written, value in _leaves(space):
            (key,) = unlayer(layer({written: None}))
            place = f"{where}.space.{written}"
            with problems.collecting():
                if key in found:
                    raise ConfigError(f"{place}: {key} is given twice")
                if key == "method" or any(f"{key}.".startswith(f"{each}.") for each in _FIXED):
                    raise ConfigError(f"{place}: is the same for all trials, as their scores are compared")
                if isinstance(value, Mapping):
                    found[key] = make(Range, value, place)
                elif isinstance(value, list) and value:
                    found[key] = Choices(value)
                else:
                    raise ConfigError(f"{place}: {_SPACE}, got {value!r}")
        problems.check()
        return cls(options, found)

    @classmethod
    def recorded(cls, path: Path, table: Any) -> Search | None:
        """The search that grid.json at `path` has, if any. Raises CheckpointError."""
        try:
            return None if table is None else cls.read(table)
        except ConfigError as error:
            raise CheckpointError(f"{path}: damaged: {error.problems[0]}") from error

    def plain(self) -> dict[str, Any]:
        """What `read` takes."""
        return {**to_dict(self.options), "space": {key: each.plain() for key, each in self.space.items()}}

    def names(self) -> list[str]:
        """Folders of the trials, which do not depend on how many there are."""
        return [f"trial-{number:02}" for number in range(1, self.options.trials + 1)]

    def corners(self) -> list[dict[str, Any]]:
        """Options with each end of each range and each choice, which are wrong if some options of the space are."""
        first = {key: each.ends()[0] for key, each in self.space.items()}
        return [first, *({**first, key: end} for key, each in self.space.items() for end in each.ends()[1:])]

    def check(self, config: RunConfig) -> None:
        """Raise ConfigError if the score is not measured during training, or if it is that of test images."""
        during, score = config.train.evaluate, self.options.score
        if during.every is None or during.every > config.train.epochs:
            raise ConfigError(
                "search.score: needs scores during training; set train.evaluate.every, a number of epochs up to "
                f"train.epochs, which is {config.train.epochs}"
            )
        if during.on == "test":
            raise ConfigError(
                "train.evaluate.on: a search by test images would make their scores meaningless; expected held-out or "
                "validation"
            )
        if during.evaluator_of(score) is None:
            measured = ", ".join(during.evaluators)
            raise ConfigError(
                f"search.score: expected a score that is measured during training, by {measured}, got {score!r}; "
                "train.evaluate.evaluators names them"
            )


class UnknownScore(ConfigError):
    """No trial of a search can have its score."""


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Ranges and lists by dotted keys, which may be written as tables in tables."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value and not value.keys() & {"low", "high"}:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
