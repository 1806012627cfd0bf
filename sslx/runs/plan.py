"""What is to be run: the configs that follow from options, from a config file and from a sweep."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sslx.core.errors import ConfigError, Problems
from sslx.core.options import label
from sslx.core.toml import read
from sslx.core.training.config import (
    RunConfig,
    configure,
    current,
    evaluator_table,
    layer,
    recommended_evaluators,
    unlayer,
)
from sslx.runs.protocols import with_protocol
from sslx.runs.session import evaluator_names

Choice = Mapping[str, Any]  # what a run varies: keys that `--set` takes, also seed and method, with their values


def plan(
    options: Mapping[str, Any] = {},
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[Any] = (),
    restarts: int | None = None,
    evaluators: Sequence[str] | None = None,
    protocol: str | None = None,
    base: Mapping[str, Any] = {},
    choices: Sequence[Choice] = ({},),
) -> dict[str, RunConfig]:
    """The config of each run, by the name of its folder in a grid.

    Raises ConfigError with one line for each mistake in any of them.

    Args:
        options: options of all runs by dotted keys, as `--set` takes them: `{"prior.variance": 0.1}`.
        methods: names of methods, each for all seeds and choices.
        seeds: seeds, each for all methods and choices.
        restarts: number of seeds: the one that is given and those after it.
        evaluators: names of evaluators, with the options that the layers give them.
        protocol: a protocol, whose evaluators come in place of the recommended ones or in addition to those that are
            named.
        base: the content of a config.toml, below all else.
        choices: what each run has beside the others, as `read_sweep` returns it.
    """
    if restarts:
        seeds = _restarts(seeds or [base.get("seed", 0)], restarts)
    axes = {"method": methods, "seed": seeds}
    chosen = combinations({key: values for key, values in axes.items() if values})
    choices = [{**choice, **more} for more in chosen for choice in choices]
    if "method" not in base and "method" not in options and any("method" not in choice for choice in choices):
        raise ConfigError("--plugin: expected the name of a method; `sslx plugins list --kind method` shows them")
    if isinstance(named := base.get("evaluators"), str | list):
        names = evaluator_names(named)
        if isinstance(named, str) and not names:
            raise ConfigError(f"evaluators: expected names of evaluators, got {named!r}")
        base = {**base, "evaluators": evaluator_table(names)}
    if (named := options.get("evaluators")) is not None and evaluators is None:
        evaluators = evaluator_names(str(named))
    here = layer({key: value for key, value in options.items() if key != "evaluators"})
    if evaluators is None:
        selection = current(base).get("evaluators", None if protocol is None else {})
    elif not (selection := evaluator_table(evaluator_names(evaluators))):
        raise ConfigError("--evaluators: expected names of evaluators, or all")
    if protocol is not None:
        selection = with_protocol(protocol, selection)
    more = [key.split(".")[1] for each in (*choices, options) for key in each if key.startswith("evaluators.")]
    problems, configs = Problems(), list[RunConfig]()
    for choice in choices:
        with problems.collecting():
            layers = base, layer(choice), here
            table = recommended_evaluators(*layers) if selection is None else selection
            table = {**table, **{name: {} for name in more if name not in table}}
            configs.append(configure(*layers, evaluators=table))
    problems.check()
    varied = [{k: v for k, v in choice.items() if k != "seed" or len(seeds) != 1} for choice in choices]
    return dict(zip(_names(varied, configs), configs, strict=True))


def combinations(axes: Mapping[str, Sequence[Any]]) -> Iterator[Choice]:
    """Every combination of one value of each key; the last key varies fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def read_sweep(path: Path) -> tuple[dict[str, Any], list[Choice]]:
    """The base config of a sweep file, and what each of its runs has beside it.

    Each table of `[[runs]]` is combined with every combination of the lists in `[grid]`, and in a `grid` of its own.
    """
    if "=" in path.name and not path.exists():
        raise ConfigError(f"sweep: expected a file, got {path}; `--seed 0,1,2` needs none")
    base = read(path)
    problems = Problems()

    def axes(table: Any, where: str) -> dict[str, Sequence[Any]]:
        if not isinstance(table, Mapping):
            problems.append(f"{path}: {where}: expected a table with a list of values for each option, got {table!r}")
            return {}
        found = unlayer(table)
        for key, values in found.items():
            if not isinstance(values, list) or not values:
                problems.append(f"{path}: {where}.{key}: expected a list of values, got {values!r}")
        return found

    common, entries = axes(base.pop("grid", {}), "grid"), base.pop("runs", [{}])
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        raise ConfigError(f"{path}: runs: expected tables, each beginning with [[runs]]")
    parts = [(axes(entry.pop("grid", {}), "runs.grid"), unlayer(entry)) for entry in entries]
    problems.check()
    return base, [{**fixed, **choice} for own, fixed in parts for choice in combinations({**own, **common})]


def _restarts(seeds: Sequence[Any], restarts: int) -> list[Any]:
    """The seed, and those after it."""
    if len(seeds) != 1:
        raise ConfigError("--restarts: takes the seeds that follow the first one, expected a single --seed with it")
    try:
        return [int(seeds[0]) + i for i in range(restarts)]
    except ValueError:
        return list(seeds)  # which the check of the config reports


def _names(choices: Sequence[Choice], configs: Sequence[RunConfig]) -> list[str]:
    """A folder for each run: its method and all that varies, such as `simvae-prior.variance=0.1-seed=2`."""
    found: list[str] = []
    for choice, config in zip(choices, configs, strict=True):
        parts = [f"{key}={value}" for key, value in choice.items() if key != "method"]
        name = re.sub(r"[^A-Za-z0-9._=-]+", "-", "-".join([label(config.method), *parts]))
        alike = sum(re.sub(r"-again\d+$", "", other) == name for other in found)
        found.append(f"{name}-again{alike}" if alike else name)  # two files may have classes of one name
    return found
