"""Protocols of papers: evaluators with their options, from files that name their sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sslx
from sslx.api import ConfigError
from sslx.core.options import to_dict
from sslx.core.training.config import configure
from sslx.runs.plan import plan
from sslx.runs.protocols import protocols, with_protocol

Command = Callable[..., Any]
MINE = 'source = "our paper"\n[evaluators.few]\nuse = "probe"\nlr = 0.5\nepochs = 2\n[evaluators.knn]\nneighbours = 3\n'


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.toml").write_text(MINE)
    return str(tmp_path / "mine.toml")


@pytest.mark.parametrize("name", ["simvae", "gedi", "aasae", "dino", "dinov3-logreg"])
def test_the_protocols_of_papers_are_whole_and_say_their_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in protocols()
    table = with_protocol(name, {})
    assert capsys.readouterr().err.startswith(f"protocol {name}: ")
    made = configure({"method": "random"}, evaluators=table).evaluators
    assert list(made) == list(table)


def test_simvae_is_what_its_appendix_says() -> None:
    made = configure({"method": "random"}, evaluators=with_protocol("simvae", {})).evaluators
    recipe = {"optimizer": "adam", "lr": 3e-4, "epochs": 200, "batch_size": 128, "schedule": "constant"}
    for name, hidden in (("lp", "none"), ("mp", 0)):
        options = to_dict(made[name])
        assert recipe.items() <= options.items() and options["hidden"] == hidden
        assert not options["standardize"] and not options["augment"]
    assert to_dict(made["knn"])["neighbours"] == 15 and to_dict(made["gmm"])["restarts"] == 200


def test_options_of_the_user_go_over_those_of_the_protocol(mine: str) -> None:
    def evaluators(options: Any = {}, **more: Any) -> Any:
        (config,) = plan(options, methods=["random"], **more).values()
        return {name: to_dict(part) for name, part in config.evaluators.items()}

    assert list(evaluators()) == ["knn", "linear"] and list(evaluators(protocol=mine)) == ["few", "knn"]
    both = evaluators({"evaluators.few.epochs": 7, "evaluators.linear.max_iter": 9}, evaluators=["mlp"], protocol=mine)
    assert list(both) == ["few", "knn", "mlp", "linear"]
    assert (both["few"]["epochs"], both["few"]["lr"], both["knn"]["neighbours"]) == (7, 0.5, 3)
    base = {"evaluators": {"few": {"lr": 0.1}, "geometry": {}}}
    assert evaluators(protocol=mine, base=base)["few"]["lr"] == 0.1
    assert "geometry" in evaluators(protocol=mine, base=base)


def test_a_protocol_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no protocol 'simvea'.*did you mean 'simvae'"):
        with_protocol("simvea", {})
    with pytest.raises(ConfigError, match="no protocol 'other'; choose from aasae, dino"):
        with_protocol("other", {})
    with pytest.raises(ConfigError, match="cannot be read"):
        with_protocol(str(tmp_path / "none.toml"), {})
    wrong = tmp_path / "wrong.toml"
    for text in ('source = "x"', "[evaluators.knn]", 'source = "x"\nother = 1\n[evaluators.knn]', "source = 1\n"):
        wrong.write_text(text)
        with pytest.raises(ConfigError, match="wrong.toml: expected `source`, a text, and tables"):
            with_protocol(str(wrong), {})


def test_runs_and_evaluations_take_a_protocol(tiny_run: Callable[..., Any], mine: str, command: Command) -> None:
    run = tiny_run("random", "run", protocol=mine, evaluators={"knn": {"neighbours": 2}})
    assert list(run.results["trained"]) == ["few", "knn"]
    assert run.results["trained"]["knn"]["options"]["neighbours"] == 2
    run = sslx.evaluate(run, protocol=mine)
    assert run.results["trained"]["knn"]["options"]["neighbours"] == 3
    code, output, errors = command("eval", str(run.path), "--protocol", mine, "--set", "few.epochs=1", "-e", "geometry")
    assert code == 0 and "few.probe-best-on-test" in output and f"protocol {mine}: our paper" in errors
    results = sslx.open_run(run.path).results["trained"]
    assert results["few"]["options"]["epochs"] == 1 and "geometry" in results
    with pytest.raises(ConfigError, match="expected names of evaluators, or a protocol"):
        sslx.evaluate(run, [])
    with pytest.raises(ConfigError, match="expected names of evaluators, or a protocol"):
        sslx.evaluate(tiny_run("random", "without", evaluators=[]))
    code, _, errors = command("eval", "without")
    assert code == 2 and "expected names of evaluators, or --protocol; choose from knn, linear" in errors
    run = sslx.evaluate(run)  # with those that it was made with
    assert run.results["trained"]["knn"]["options"]["neighbours"] == 2
