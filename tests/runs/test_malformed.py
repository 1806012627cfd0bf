"""Configs, sweeps and command lines that are wrong in every place: each is refused in one clear line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sslx
from sslx.core.errors import ConfigError
from sslx.core.toml import read
from sslx.runs.plan import plan, read_sweep

CONFIGS = """
[[train]]|train: expected a table of options
train = [1]|train: expected a table of options, got [1]
train = "fast"|train: expected a table of options, got 'fast'
train = true|train: expected a table of options, got True
train.epochs = true|train.epochs: expected an integer >= 0, got True
train.epochs = "3"|train.epochs: expected an integer >= 0, got '3'
train.epochs = 1e400|train.epochs: expected an integer >= 0, got inf
train.epochs = 99999999999999999999|train.epochs: expected an integer >= 0, got an integer of more than 64 bits
train.epochs = [1]|train.epochs: expected an integer >= 0, got [1]
train.epochs = {a = 1}|epochs: is given as 80 and as a table of options, {'a': 1}
train.epochs = 1979-05-27|train.epochs: expected an integer >= 0
train.batch_size = -1|train.batch_size: expected an integer > 0, got -1
train.lr = 1\\ntrain.optimizer.lr = 2|train.lr: is given as 1, and as 2 by train.optimizer.lr
train.lr = nan|train.optimizer.lr: expected a number > 0, got nan
train.lr = [1]|train.optimizer.lr: expected a number > 0, got [1]
train.lr = {}|train.optimizer.lr: expected a number > 0, got {}
train.optimizer = 3|train.optimizer
train.optimizer = [1]|train.optimizer
train.optimizer = ""|there is no optimizer ''
train.optimizer.use = 1|train.optimizer: expected the name of an optimizer, got 1
train.optimizer.lr = "x"|train.optimizer.lr: expected a number > 0, got 'x'
train.precision = 32|train.precision: expected one of fp32, tf32, bf16, fp16, got 32
seed = 9223372036854775808|seed: expected an integer >= 0 and < 9.22337e+18, got an integer of more than 64 bits
seed = -1|seed: expected an integer >= 0
seed = true|seed: expected an integer >= 0
seed = "a"|seed: expected an integer >= 0
seed = [0, 1]|seed: expected an integer >= 0 and < 9.22337e+18, got [0, 1]
seed = {a = 1}|seed: expected an integer >= 0
subset = 0|subset: expected an integer > 0 or none, got 0
subset = 1.5|subset: expected an integer > 0 or none, got 1.5
subset = [3]|subset: expected an integer > 0 or none, got [3]
views = 3|views: expected the name of a views or a table of options, got 3
views = [1]|views: expected the name of a views
views = ""|views: there is no view policy ''
[[views]]|views: expected the name of a views
views.use = ["a"]|views: expected the name of a views, got ['a']
views.use = {a = 1}|views: expected the name of a views, got {'a': 1}
views.count = true|views.count: expected an integer > 0, got True
views.crop = 1|views.crop: expected a list of 2
views.crop = [[1], [2]]|views.crop: expected a list of 2
views.crop = [nan, 1]|views.crop: expected a list of 2
views.local = 3|views.local
views.local = [1]|views.local
views.local.use = 3|views.local: expected the name of a views, got 3
dataset = true|dataset: expected the name of a dataset
dataset.use = []|dataset: expected the name of a dataset, got []
[[dataset]]|dataset: expected the name of a dataset
dataset = "nope/digits"|dataset: there is no dataset 'nope/digits'
dataset = "./x.py"|name the class as well
dataset = "./x.py:"|name the class as well
dataset = ":"|there is no dataset
dataset = "a.b:C"|module a.b cannot be imported
dataset = "folder:a\\u0000b"|dataset.path: expected a path
dataset = "~nobody-here/x.py:C"|cannot be the path of a file
dataset = "a\\u0000.py:X"|cannot be the path of a file
loader = 1.5|loader: expected the name of a loader
loader = "sys:exit"|loader: sys:exit is not a Loader; expected a subclass of sslx.api.Loader
loader = "digits"|there is no loader 'digits'
evaluators = 5|evaluators: expected names of evaluators or a table of them, got 5
evaluators = [5]|evaluators: expected names of evaluators or a table of them, got 5
evaluators = [[1]]|evaluators: expected names of evaluators or a table of them, got [1]
[[evaluators]]|evaluators: expected names of evaluators or a table of them, got {}
evaluators = ""|evaluators: expected names of evaluators, got ''
evaluators = [""]|evaluators
evaluators.use = "knn"|evaluators: expected a table with the name of an evaluator as each key, got 'use'
evaluators."" = {use = "knn"}|evaluators: expected a table with the name of an evaluator as each key, got ''
evaluators.knn = 5|evaluators.knn: expected the name of an evaluator or a table of options, got 5
evaluators.knn = [1]|evaluators.knn: expected the name of an evaluator or a table of options, got [1]
evaluators.knn.use = 3|evaluators.knn: expected the name of an evaluator, got 3
evaluators.knn.neighbours = {}|evaluators.knn.neighbours: expected an integer > 0
method = 3|method: expected the name of a method
method = []|method: expected the name of a method
method = "adam"|there is no method 'adam'
method.use = true|method: expected the name of a method, got True
method.encoder = 5|method.encoder: expected the name of an encoder or a table of options, got 5
method.encoder.dim = "a"|method.encoder.dim: expected an integer >= 0, got 'a'
method.encoder.posterior.projection = 1|method.encoder.posterior.projection: expected a list
grid = {a = [1]}|grid: RunConfig has no option 'grid'
"" = 1|RunConfig has no option ''
x = 1|x: RunConfig has no option 'x'
a = = 1|not valid TOML
a = {b = 1, b.c = 2}|; a part with options is a table, such as prior =
\x00 = 1|not valid TOML
""".strip().splitlines()
LONG = [
    ("x = " + "[" * 3000, "not valid TOML"),
    ("seed = " + "[" * 100 + "]" * 100, "seed: expected an integer"),
    ("seed = " + "9" * 5000, "not valid TOML"),
    (f'dataset = "folder:{"a" * 300}"', "dataset.path: expected a path"),
    (f'dataset = "folder:{"a/" * 3000}"', "dataset.path: expected a path"),
    (f'dataset = "{"a" * 300}"', "there is no dataset"),
    (f'dataset = "{"a" * 300}.py:X"', "cannot be the path of a file"),
]


@pytest.mark.parametrize(("text", "message"), [*(tuple(line.rsplit("|", 1)) for line in CONFIGS), *LONG])
def test_a_config_that_is_wrong_anywhere_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = text.replace("\\n", "\n")
    path.write_text(text if text.startswith(("method =", "method.use")) else f'method.use = "simclr"\n{text}\n')
    with pytest.raises(ConfigError) as error:
        plan(base=read(path))
    (line,) = error.value.problems
    assert message in line and len(line) < 600 and "\n" not in line


SWEEPS = """
[grid]\\nseed = 3|grid.seed: expected a list of values, got 3
grid = 3|grid: expected a table with a list of values for each option, got 3
grid = [1]|grid: expected a table with a list of values for each option, got [1]
[[grid]]\\na = [1]|grid: expected a table with a list of values for each option, got [{'a': [1]}]
[grid]\\nseed = []|grid.seed: expected a list of values, got []
[grid]\\nseed = [[1]]|seed: expected an integer >= 0 and < 9.22337e+18, got [1]
[grid]\\nseed = ["a"]|seed: expected an integer >= 0
[grid]\\ntrain = [1]|train: is given as 1 and as a table of options, {'epochs': 1}
[grid]\\nevaluators = [1]|evaluators: expected names of evaluators
[grid]\\nmethod = [3]|method: expected the name of a method
[grid]\\ndataset = [["digits"]]|dataset: expected the name of a dataset
[grid]\\n"" = [1]|has no option ''
[grid.train]\\nlr = [0.1, "x"]|train.optimizer.lr: expected a number > 0, got 'x'
runs = 3|runs: expected tables, each beginning with [[runs]]
runs = []|runs: expected tables, each beginning with [[runs]]
runs = [1]|runs: expected tables, each beginning with [[runs]]
[runs]\\na = 1|runs: expected tables, each beginning with [[runs]]
[[runs]]\\nseed = [1]|seed: expected an integer
[[runs]]\\ngrid = 3|runs.grid: expected a table with a list of values for each option, got 3
[[runs]]\\nevaluators = 5|evaluators: expected names of evaluators
[[runs]]\\nevaluators.knn = 5|evaluators.knn: expected the name of an evaluator
[[runs]]\\nmethod = 3|method: expected the name of a method
seed = [0, 1]|seed: expected an integer
""".strip().splitlines()


@pytest.mark.parametrize("line", SWEEPS)
def test_a_sweep_that_is_wrong_anywhere_is_one_line(line: str, tmp_path: Path) -> None:
    text, message = line.replace("\\n", "\n").split("|")
    path = tmp_path / "sweep.toml"
    path.write_text(f'method = "random"\n{text}\n')
    with pytest.raises(ConfigError) as error:
        base, choices = read_sweep(path)
        plan({"train.epochs": 1}, base=base, choices=choices)
    (line,) = error.value.problems
    assert message in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "meta"], "device: 'meta' cannot be used here"),
        (["--set", "seed=1\nsubset=3"], "seed: expected an integer >= 0"),
        (["--set", "train.lr=0.1\nx"], "train.optimizer.lr: expected a number > 0"),
        (["-e", ""], "--evaluators: expected names of evaluators, or all"),
        (["-e", ","], "--evaluators: expected names of evaluators, or all"),
        (["--set", "=1"], "expected KEY=VALUE"),
        (["--set", "a..b=1"], "expected KEY=VALUE"),
        (["--set", "evaluators.knn=5"], "evaluators.knn: there is no evaluator '5'"),
        (["--set", "evaluators.=5"], "expected KEY=VALUE"),
        (["--set", "train.lr=0.1", "--lr", "0.2"], "train.lr: is given as 0.1, and as 0.2 by train.optimizer.lr"),
        (["--set", "method=vae"], "method: is given twice, as random by --plugin and as vae by --set"),
        (["--seed", ","], "--seed: expected an integer, or several separated by commas"),
        (["--seed", "-1"], "seed: expected an integer >= 0"),
        (["--seed", "99999999999999999999"], "seed: expected an integer >= 0"),
        (["--out", "a" * 300], "cannot be the path of a file"),
        (["--out", "a\0b"], "cannot be the path of a file"),
        (["--data-dir", "a\0b"], "cannot be the path of a file"),
        (["--config", "a" * 300], "cannot be the path of a file"),
        (["--sweep", "a\0b"], "cannot be the path of a file"),
        (["-d", "folder:" + "a" * 300], "dataset.path: expected a path"),
        (["-d", "beton:a\0b"], "dataset.path: expected a path"),
        (["-d", "folder:a\udcff"], "dataset.path: expected a path"),
        (["-p", "./a\udcff.py:Mine"], "expected a path of UTF-8 characters"),
        (["--from", "a\udcff"], "weights: expected"),
        (["--track", "nope"], "there is no tracker 'nope'"),
        (["--track", "~nobody-here/x.py:Y"], "cannot be the path of a file"),
    ],
)
def test_a_wrong_command_line_is_one_line(words: list[str], message: str, command: Callable[..., Any]) -> None:
    code, _, errors = command("run", "-p", "random", "--subset", "64", *words)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--config", "pipe.toml"],
        ["run", "--sweep", "pipe.toml"],
        ["run", "--recipe", "pipe.toml"],
        ["run", "-p", "random", "--protocol", "pipe.toml"],
        ["reproduce", "pipe.toml"],
    ],
)
def test_a_pipe_in_place_of_a_file_blocks_nothing(
    words: list[str], command: Callable[..., Any], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    code, _, errors = command(*words)
    assert code == 2 and "pipe.toml: cannot be read (it is not a file)" in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": 5}, "config: expected a table of options, got 5"),
        ({"config": {"train": 5}}, "train: is given as 5 and as a table of options, {'epochs': 1}"),
        ({"evaluators": [5]}, "evaluators: expected names of evaluators or a table of them, got 5"),
        ({"evaluators": {"knn": 5}}, "evaluators.knn: expected the name of an evaluator"),
        ({"prior": 5}, "method.prior: expected the name of a prior"),
        ({"prior": 10**5000}, "got an integer of more than 64 bits"),
        ({"prior": torch.optim.Adam}, "Adam is not a Prior; expected a subclass of sslx.api.Prior"),
        ({"prior": sslx.make("optimizer", "adam")}, "method.prior: Adam is not a Prior; it is an optimizer"),
        ({"prior": type(sslx.make("optimizer", "adam"))}, "method.prior: adam is not a Prior; it is an optimizer"),
        ({"method": "vae"}, "method: is given twice"),
    ],
)
def test_a_wrong_call_from_python_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        sslx.run("simvae", **{"evaluators": ["knn"], "train": {"epochs": 1}, **given})
    (line,) = error.value.problems
    assert message in line


def test_settings_of_a_run_are_taken_from_every_side(command: Callable[..., Any]) -> None:
    assert command("run", "-p", "random", "-s", "seed=1", "-s", "subset=64", "-e", "knn", "-o", "a").code == 0
    assert (config := sslx.open_run("a").config).seed == 1 and config.subset == 64
    options: dict[str, Any] = {"subset": 64, "device": "cpu"}
    run = sslx.run("random", evaluators={"knn": {"neighbours": 3}}, out="b", **options)
    assert run.config.evaluators["knn"].neighbours == 3  # type: ignore[attr-defined]
    for name, key in (("a", "knn.neighbours"), ("b", "evaluators.knn.neighbours")):  # as `run` spells it, and shorter
        assert command("eval", name, "-e", "knn", "-s", f"{key}=2").code == 0
        assert sslx.open_run(name).results["trained"]["knn"]["options"]["neighbours"] == 2
    simvae = sslx.run("simvae", prior="mixture", train={"epochs": 0}, evaluators=["knn"], out="c", **options)
    assert type(simvae.config.method.prior).__name__ == "Mixture"  # type: ignore[attr-defined]
