"""What a command is to run follows from its options alone, without the command line and without training anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sslx.core.errors import ConfigError
from sslx.runs.plan import plan, read_sweep


def test_methods_and_seeds_are_combined() -> None:
    found: Any = plan({"train.epochs": 2}, methods=["vae", "simvae"], seeds=[0, 1])
    assert list(found) == ["vae-seed=0", "vae-seed=1", "simvae-seed=0", "simvae-seed=1"]
    assert [config.seed for config in found.values()] == [0, 1, 0, 1]
    assert {config.train.epochs for config in found.values()} == {2}
    assert list(plan({"seed": 3}, methods=["vae"], seeds=[])) == ["vae"]
    assert plan({"seed": 3}, methods=["vae"])["vae"].seed == 3


def test_restarts_are_successive_seeds() -> None:
    assert [config.seed for config in plan(methods=["vae"], seeds=[5], restarts=3).values()] == [5, 6, 7]
    assert [config.seed for config in plan({}, base={"method": "vae", "seed": 2}, restarts=2).values()] == [2, 3]
    with pytest.raises(ConfigError, match="expected a single --seed"):
        plan(methods=["vae"], seeds=[0, 1], restarts=2)


@pytest.mark.parametrize(
    ("options", "names", "base", "expected"),
    [
        ({}, None, {}, ["knn", "linear"]),
        ({"evaluators.gmm.restarts": 1}, None, {}, ["knn", "linear", "gmm"]),
        ({"evaluators": "gmm,knn"}, None, {}, ["gmm", "knn"]),
        ({"evaluators": "gmm,knn"}, ["linear"], {}, ["linear"]),
        ({"evaluators.knn.neighbours": 2}, ["gmm"], {}, ["gmm", "knn"]),
        ({}, None, {"evaluators": ["gmm"]}, ["gmm"]),
        ({}, None, {"evaluators": "gmm,knn"}, ["gmm", "knn"]),
        ({}, ["knn"], {"evaluators": {"gmm": {}, "knn": {"neighbours": 3}}}, ["knn"]),
    ],
)
def test_evaluators_are_those_that_are_named_last(
    options: dict[str, Any], names: Any, base: dict[str, Any], expected: list[str]
) -> None:
    config: Any = plan(options, methods=["vae"], evaluators=names, base=base)["vae"]
    assert list(config.evaluators) == expected
    if base == {"evaluators": {"gmm": {}, "knn": {"neighbours": 3}}}:
        assert config.evaluators["knn"].neighbours == 3


def test_mistakes_of_all_runs_come_together() -> None:
    with pytest.raises(ConfigError) as error:
        plan({"train.epochs": -1}, methods=["vae", "simvae", "vea"], choices=[{"encoder.dim": -1}, {"encoder.dim": 2}])
    assert error.value.problems == [
        "method.encoder.dim: expected an integer >= 0, got -1",
        "train.epochs: expected an integer >= 0, got -1",
        "method: there is no method 'vea' (did you mean 'vae'?)",
    ]


def test_a_method_is_needed() -> None:
    with pytest.raises(ConfigError, match="--plugin: expected the name of a method"):
        plan({"train.epochs": 1})
    assert list(plan({"method": "vae"})) == ["vae"]


def test_keys_of_a_sweep_are_those_of_set(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(
        'method = "simvae"\ntrain.epochs = 1\n[grid]\nprior.variance = [0.1, 0.2]\nseed = [0, 1]\n'
        'subset = [64]\n"evaluators.knn.neighbours" = [3]\ntrain.lr = [0.1]\n'
    )
    base, choices = read_sweep(path)
    configs: Any = plan(base=base, choices=choices)
    assert len(configs) == 4
    name = "simvae-prior.variance=0.1-seed=0-subset=64-evaluators.knn.neighbours=3-train.lr=0.1"
    assert next(iter(configs)) == name
    one = configs[name]
    assert (one.subset, one.train.optimizer.lr, one.evaluators["knn"].neighbours) == (64, 0.1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[train]]\nlr = 0.5\nepochs = 1", "train: expected a table of options, got [{'lr': 0.5, 'epochs': 1}]"),
        ("train = [1]", "train: expected a table of options, got [1]"),
        ('train = "fast"', "train: expected a table of options, got 'fast'"),
        ("[evaluators]\nknn = 5", "evaluators.knn: expected the name of an evaluator or a table of options, got 5"),
        ("evaluators = 5", "evaluators: expected names of evaluators or a table of them, got 5"),
        ("x = " + "[" * 3000, "not valid TOML"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("seed = 9223372036854775808", "seed: expected an integer >= 0 and < 9.22337e+18"),
    ],
)
def test_a_wrong_config_file_is_one_line(text: str, message: str, command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'method = "random"\n{text}\n')
    done = command("run", "--config", "mine.toml", "--subset", "64", "-o", "run")
    assert done.code == 2 and message in done.errors and len(done.errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()
