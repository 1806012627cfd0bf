"""Plugins are found when installed, loaded when used, and cannot break anything but themselves."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import resource
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import reseal

from sslx.api import hookimpl
from sslx.core.toml import loads
from sslx.plugins import hookspecs
from sslx.plugins.registry import Registry

Install = Callable[..., Path]

METHOD = """
from sslx.api import hookimpl, method, prior

@hookimpl
def sslx_components():
    yield method("foo", "{module}_code:Foo", summary="Foo (Doe 2026)")
"""
CODE = """
from sslx.api import Method, Encoder, Terms, option, slot

class Foo(Method):
    encoder: Encoder = slot(default="mlp", hidden=(8,))
    weight: float = option(default=1.0, gt=0, help="Weight of the only term.")

    def forward(self, views):
        return Terms(size=self.weight * self.encoder(views.flat).mean.square().mean())

    def represent(self, x):
        return self.encoder(x).mean
"""


def test_an_installed_plugin_is_listed_and_its_method_runs(install: Install, sslx_command: Any) -> None:
    site = install("sslx-foo", METHOD.format(module="sslx_foo"))
    (site / "sslx_foo_code.py").write_text(CODE)
    listed = sslx_command("plugins", "list", path=site)
    assert "sslx-foo 1.0" in listed.stdout and "Foo (Doe 2026)" in listed.stdout
    shown = sslx_command("plugins", "show", "foo", path=site).stdout
    assert "a number > 0" in shown and "Weight of the only term." in shown and "encoder.hidden" in shown
    ran = sslx_command(
        "run", "-p", "foo", "--epochs", "1", "--subset", "64", "--set", "weight=2", "--out", "run", path=site
    )
    assert ran.returncode == 0, ran.stderr
    assert "\nfoo " in ran.stdout and "untrained encoder" in ran.stdout
    record = (site.parent / "run" / "run.json").read_text()
    assert '"distribution": "sslx-foo"' in record and '"version": "1.0"' in record


RECORD = "from sslx.api import Record, hookimpl, method\n@hookimpl\ndef sslx_components():\n    yield "
BROKEN = {
    "sslx-raises": ("import no_such_module", "No module named 'no_such_module'"),
    "sslx-exits": ("import sys; sys.exit(3)", "calls sys.exit(3)"),
    "sslx-torch": ("import torch.nn as nn", "imports torch during discovery"),
    "sslx-components": ("from sslx.api import Prior", "imports torch during discovery"),
    "sslx-syntax": ("def broken(:", "SyntaxError"),
    "sslx-recursion": ("def f(): f()\nf()", "RecursionError"),
    "sslx-record": (RECORD + "method('Bad Name', 'a:B')", "name must look like 'my-prior', got 'Bad Name'"),
    "sslx-target": (RECORD + "method('ok', 'no target')", "target must look like"),
    "sslx-tuple": (RECORD + "('method', 'x')", "must yield records"),
    "sslx-kind": (RECORD + "Record('methd', 'x', 'a:B')", "did you mean 'method'?"),
    "sslx-twice": (RECORD + "method('x', 'a:B')\n    yield method('x', 'a:C')", "recorded twice"),
    "sslx-argument": ("from sslx.api import hookimpl\n@hookimpl\ndef sslx_metrics(run, steps):\n    pass", "steps"),
    "sslx-hook": (
        "from sslx.api import hookimpl\n@hookimpl\ndef sslx_no_such_hook(run):\n    pass",
        "sslx_no_such_hook",
    ),
}


def test_among_twenty_plugins_the_bad_ones_are_listed_with_their_reasons_and_break_nothing(
    install: Install, sslx_command: Any, here: Any
) -> None:
    for name, (code, _) in BROKEN.items():
        site = install(name, code)
    install("sslx-old", "raise RuntimeError('was imported')", group="sslx.v0")
    for name in ("sslx-foo", "sslx-twin", *(f"sslx-good{i}" for i in range(5))):
        module = name.replace("-", "_")
        short = "foo" if name == "sslx-twin" else name.removeprefix("sslx-")
        install(name, METHOD.format(module=module).replace('"foo"', f'"{short}"'))
        (site / f"{module}_code.py").write_text(CODE)
    assert len(list(site.glob("*.dist-info"))) >= 20

    sslx_command("plugins", "list", path=site)  # compiles them to bytecode
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    listed = sslx_command("plugins", "list", path=site, COLUMNS="1000")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert listed.returncode == 0 and "Traceback" not in listed.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5  # 0.3 s of it without a plugin
    above = listed.stdout.partition("\n\n")[0].splitlines()  # the table of plugins
    lines = {line.split()[1]: line for line in above}
    for name, (_, reason) in BROKEN.items():
        assert "broken" in lines[name] and reason in lines[name]
    assert "incompatible" in lines["sslx-old"] and "plugin API 0, this is API 1" in lines["sslx-old"]
    assert "  ok" in lines["sslx-foo"] and "also provided by sslx-twin 1.0: write sslx-foo/foo" in lines["sslx-foo"]
    assert "  ok" in lines["sslx-good1"] and "A plugin is code that runs with your rights" in listed.stdout

    assert "No module named" in here("plugins", "show", "sslx-raises").output
    assert "sslx-raises" in here("plugins", "check", "sslx-raises").output
    for words in (["--help"], ["plugins", "show", "good1"], ["plugins", "show", "simvae"], ["data", "--help"]):
        assert here(*words).code == 0
    runs = ["run", "-p", "sslx-twin/foo", "--epochs", "1", "--subset", "64", "-e", "knn", "-o", "out"]
    for words in (runs, ["compare", "out"], ["eval", "out", "-e", "geometry"]):
        done = here(*words)
        assert done.code == 0, done.errors


def test_an_unknown_name_gets_the_nearest_and_says_which_plugins_failed(install: Install, here: Any) -> None:
    install("sslx-raises", "import no_such_module")
    code, _, errors = here("run", "-p", "simva")
    assert code == 2 and "Traceback" not in errors
    assert "there is no method 'simva' (did you mean 'simvae'?)" in errors and "sslx-raises (broken)" in errors


def test_two_providers_of_a_name_are_both_named_and_either_can_be_chosen(install: Install, here: Any) -> None:
    for name in ("sslx-foo", "sslx-bar"):
        site = install(name, METHOD.format(module=name.replace("-", "_")))
        (site / f"{name.replace('-', '_')}_code.py").write_text(CODE)
    code, _, errors = here("run", "-p", "foo")
    assert code == 2 and "provided by sslx-bar 1.0 and sslx-foo 1.0; write sslx-bar/foo or sslx-foo/foo" in errors
    both = here("run", "-p", "sslx-bar/foo,random", "--epochs", "1", "--subset", "64")
    assert both.code == 0, both.errors


def test_plugins_can_be_switched_off(install: Install, sslx_command: Any) -> None:
    site = install("sslx-foo", METHOD.format(module="sslx_foo"))
    for switch in ({"SSLX_DISABLE_PLUGINS": "sslx-foo"}, {"SSLX_PLUGINS": ""}):
        listed = sslx_command("plugins", "list", path=site, **switch).stdout
        assert "disabled" in listed and "Foo (Doe 2026)" not in listed and "simvae" in listed
    assert "Foo (Doe 2026)" in sslx_command("plugins", "list", path=site, SSLX_PLUGINS="foo").stdout
    without = sslx_command("--no-plugins", "plugins", "list", path=site).stdout
    assert "disabled  not listed in SSLX_PLUGINS" in without and "Foo (Doe 2026)" not in without
    assert "there is no method 'foo'" in sslx_command("--no-plugins", "run", "-p", "foo", path=site).stderr


def test_a_target_that_cannot_be_imported_is_one_line(install: Install, here: Any) -> None:
    install("sslx-foo", METHOD.format(module="sslx_foo"))
    code, _, errors = here("run", "-p", "foo")
    assert code == 2 and "Traceback" not in errors
    assert "sslx-foo 1.0: method 'foo': module sslx_foo_code cannot be imported" in errors


HOOKS = """
from sslx.api import hookimpl

@hookimpl
def sslx_run_start(run): print("start", run.name)

@hookimpl
def sslx_metrics(run, step, metrics): print("metrics", step, "loss" in metrics)

@hookimpl
def sslx_epoch_end(epoch): print("epoch", epoch)

@hookimpl
def sslx_checkpoint(run, path): print("checkpoint", path.name)

@hookimpl
def sslx_evaluated(report): print("evaluated", *report)

@hookimpl
def sslx_run_end(run, error): print("end", error)
"""


class Broken:
    """A dashboard that is down."""

    @hookimpl
    def sslx_metrics(self, step: int) -> None:
        if step == 2:
            raise RuntimeError("dashboard is down")

    @hookimpl
    def sslx_run_end(self) -> None:
        print("never reached, this plugin is muted")


def test_every_hook_is_called_and_one_that_fails_is_muted_with_one_line(
    sslx_registry: Registry, tiny_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    module = types.ModuleType("tracker")
    exec(HOOKS, module.__dict__)
    assert sslx_registry.add("sslx-tracker", module).status == "ok"
    assert sslx_registry.add("sslx-broken", Broken()).status == "ok"
    tiny_run("vae", "run")
    captured = capsys.readouterr()
    told = [line.split(" ")[0] for line in captured.out.splitlines()]
    steps = ["metrics"] * 6
    assert told == ["start", *steps, "epoch", *steps, "checkpoint", "epoch", "evaluated", "end"], captured.out
    assert "start vae" in captured.out and "metrics 12 True" in captured.out and "epoch 1" in captured.out
    assert "checkpoint step-000000012" in captured.out and "evaluated trained untrained" in captured.out
    assert "end None" in captured.out
    assert (
        captured.err.count("plugin sslx-broken/sslx-broken failed in sslx_metrics and is muted: dashboard is down") == 1
    )
    hooks = {name for name in vars(hookspecs) if name.startswith("sslx_")} - {"sslx_components"}
    assert hooks == {name for name in vars(module) if name.startswith("sslx_")}, "a hook without a test"


def test_a_command_of_a_plugin_is_one_of_sslx(install: Install, sslx_command: Any) -> None:
    code = "from sslx.api import hookimpl, command\n@hookimpl\ndef sslx_components():\n    yield command('greet', 'sslx_hi_code:greet', summary='says hello')"
    site = install("sslx-hi", code)
    (site / "sslx_hi_code.py").write_text(
        "import click\n@click.command()\ndef greet():\n    'Say it.'\n    print('hello')\n"
    )
    assert re.search("greet +says hello", sslx_command("--help", path=site).stdout)
    assert sslx_command("greet", path=site).stdout == "hello\n"


def test_a_run_says_what_differs_when_it_is_repeated(install: Install, here: Any, tmp_path: Path) -> None:
    site = install("sslx-foo", METHOD.format(module="sslx_foo"))
    (site / "sslx_foo_code.py").write_text(CODE)
    done = here("run", "-p", "foo", "--epochs", "1", "--subset", "64", "-e", "knn", "-o", "run")
    assert done.code == 0, done.errors
    again = ["run", "--config", "run/config.toml", "-o"]
    assert "run: " not in here(*again, "same").errors
    (site / "sslx_foo_code.py").write_text(CODE + "\n# a change\n")
    changed = here("eval", "run", "-e", "geometry").errors
    assert "run: the code of method foo of sslx-foo 1.0 is not what it was\n" in changed
    (site / "sslx_foo-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sslx-foo\nVersion: 1.1\n")
    reseal(tmp_path / "run" / "run.json", lambda record: record["versions"].update(torch="1.0"))
    said = [line for line in here(*again, "other").errors.splitlines() if line.startswith("run: ")]
    assert said == [f"run: torch was 1.0, and is {version('torch')}", "run: sslx-foo was 1.0, and is 1.1"]


class _Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("exploded",)


def _configured(run: Path, config: str) -> None:
    """Another config, with a record that fits."""
    (run / "config.toml").write_text(config)
    reseal(run / "run.json", lambda record: record.update(config=loads(config)))


def test_a_run_of_someone_else_is_opened_without_executing_anything(
    tiny_run: Any, command: Any, tmp_path: Path
) -> None:
    run = tiny_run("random", "run")
    (path,) = (run.path / "checkpoints").glob("step-*")
    for data in (pickle.dumps(_Bomb(), protocol=2), b""):
        if data:
            (path / "shared.pt").write_bytes(data)
        else:
            torch.save({"method": _Bomb()}, path / "shared.pt")
        facts = {"size": 1, "sha256": hashlib.sha256((path / "shared.pt").read_bytes()).hexdigest()}
        reseal(path / "manifest.json", lambda manifest, facts=facts: manifest["files"].update({"shared.pt": facts}))
        code, _, errors = command("eval", "run", "-e", "geometry")
        assert code == 1 and "holds more than tensors and plain values; nothing is loaded" in errors
    (run.path / "evil.py").write_text("import os; os.mkdir('exploded')")
    config = (run.path / "config.toml").read_text()
    for place in ("run/evil.py", str(run.path / "evil.py"), "../run/evil.py"):
        _configured(run.path, config.replace('use = "random"', f'use = "{place}:Evil"'))
        assert command("compare", "run").code == 0  # looks at results alone
        code, _, errors = command("eval", "run", "-e", "geometry")
        assert code == 2 and "is code that the files of a run name, so it is not executed" in errors
    _configured(run.path, config.replace("[evaluators.knn]", '[evaluators."run/evil.py:Evil"]'))
    assert command("compare", "run").code == 0
    code, _, errors = command("resume", "run")
    assert code == 0  # it is finished
    assert not (tmp_path / "exploded").exists()


FILE = CODE.replace("class Foo", "class Mine")


def test_a_method_in_one_file_runs_without_packaging(command: Any, tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(FILE)
    code, output, errors = command("run", "-p", "./my_method.py:Mine", "--epochs", "1", "--subset", "64", "-o", "run")
    assert code == 0 and "Mine" in output, errors
    assert '"sha256"' in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("./missing.py:Mine", "missing.py: no such file"),
        ("./my_method.py", "name the class as well, such as ./my_method.py:MyClass"),
        ("./my_method.py:Mien", "did you mean 'Mine'?"),
        ("./raises.py:Mine", "raises.py:1: cannot be imported: ZeroDivisionError"),
        ("./my_method.py:Encoder", "is not a Method"),
    ],
)
def test_a_wrong_file_plugin_is_one_line(reference: str, message: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(FILE)
    (tmp_path / "raises.py").write_text("1 / 0")
    code, _, errors = command("run", "-p", reference)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1


def test_the_defaults_of_a_component_are_of_its_own_package(install: Install, here: Any) -> None:
    code = "from sslx.api import hookimpl, prior\n\n@hookimpl\ndef sslx_components():\n"
    install("sslx-foo", code + "    yield prior('shared-mean', 'sslx_foo_code:Mine')")
    done = here("run", "-p", "simvae", "--epochs", "1", "--subset", "64", "-e", "linear")
    assert done.code == 0, done.errors
    code, _, errors = here("run", "-p", "vae", "--set", "prior=shared-mean")
    assert code == 2 and "write sslx/shared-mean or sslx-foo/shared-mean" in errors


def test_a_failing_evaluator_does_not_lose_the_scores_of_the_others(command: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from sslx.api import Evaluator\nclass Boom(Evaluator):\n    def evaluate(self, evaluation): raise ValueError('boom')"
    )
    code, output, errors = command("run", "-p", "random", "--subset", "64", "-e", "./bad.py:Boom,linear", "-o", "run")
    assert code == 1 and "logistic regression on 64 training images" in output and "failed, ValueError: boom" in output
    assert "tries again" in errors and "Traceback" not in errors


def test_another_evaluation_keeps_the_results_before_it(tiny_run: Any, command: Any) -> None:
    run = tiny_run("random", "run")
    before = (run.path / "results.json").read_text()
    code, output, errors = command("eval", str(run.path), "-e", "linear")
    assert code == 0 and "linear" in output and "results-1.json" in errors
    assert (run.path / "results-1.json").read_text() == before
    assert set(run.results["trained"]) == {"knn", "linear"}
