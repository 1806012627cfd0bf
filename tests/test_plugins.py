"""Plugins are found when installed, loaded when used, and cannot break anything but themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    weight: float = option(default=1.0, gt=0, help="of the only term")

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
    assert "a number > 0" in shown and "of the only term" in shown and "encoder.hidden" in shown
    ran = sslx_command(
        "run", "-p", "foo", "--epochs", "1", "--subset", "64", "--set", "weight=2", "--out", "run", path=site
    )
    assert ran.returncode == 0, ran.stderr
    assert "\nfoo " in ran.stdout and "random" in ran.stdout
    record = (site.parent / "run" / "run.json").read_text()
    assert '"distribution": "sslx-foo"' in record and '"version": "1.0"' in record


BROKEN = {
    "sslx-raises": ("import no_such_module", "No module named 'no_such_module'"),
    "sslx-exits": ("import sys; sys.exit(3)", "calls sys.exit(3)"),
    "sslx-syntax": ("def broken(:", "SyntaxError"),
    "sslx-recursion": ("def f(): f()\nf()", "RecursionError"),
    "sslx-record": (
        "from sslx.api import hookimpl, method\n@hookimpl\ndef sslx_components():\n    yield method('Bad Name', 'a:B')",
        "name must look like 'my-prior', got 'Bad Name'",
    ),
    "sslx-target": (
        "from sslx.api import hookimpl, method\n@hookimpl\ndef sslx_components():\n    yield method('ok', 'no target')",
        "target must look like",
    ),
    "sslx-tuple": (
        "from sslx.api import hookimpl\n@hookimpl\ndef sslx_components():\n    yield ('method', 'x')",
        "must yield records",
    ),
    "sslx-kind": (
        "from sslx.api import hookimpl, Record\n@hookimpl\ndef sslx_components():\n    yield Record('methd', 'x', 'a:B')",
        "did you mean 'method'?",
    ),
    "sslx-twice": (
        "from sslx.api import hookimpl, prior\n@hookimpl\ndef sslx_components():\n"
        "    yield prior('x', 'a:B')\n    yield prior('x', 'a:C')",
        "recorded twice",
    ),
    "sslx-argument": (
        "from sslx.api import hookimpl\n@hookimpl\ndef sslx_metrics(run, steps):\n    pass",
        "steps",
    ),
    "sslx-hook": (
        "from sslx.api import hookimpl\n@hookimpl\ndef sslx_no_such_hook(run):\n    pass",
        "sslx_no_such_hook",
    ),
}


def test_broken_plugins_are_listed_with_their_reasons_and_break_nothing(install: Install, sslx_command: Any) -> None:
    for name, (code, _) in BROKEN.items():
        site = install(name, code)
    install("sslx-old", "raise RuntimeError('was imported')", group="sslx.v0")
    good = install("sslx-foo", METHOD.format(module="sslx_foo"))
    (good / "sslx_foo_code.py").write_text(CODE)
    listed = sslx_command("plugins", "list", path=site)
    assert listed.returncode == 0 and "Traceback" not in listed.stderr
    lines = {line.split()[1]: line for line in listed.stdout.splitlines() if line.count("  ")}
    assert "No module named" in sslx_command("plugins", "show", "sslx-raises", path=site).stdout
    for name, (_, reason) in BROKEN.items():
        assert "broken" in lines[name] and reason in lines[name]
    assert "incompatible" in lines["sslx-old"] and "plugin API 0, this is API 1" in lines["sslx-old"]
    assert "  ok" in lines["sslx-foo"]
    assert sslx_command("--help", path=site).returncode == 0
    assert sslx_command("plugins", "show", "foo", path=site).returncode == 0
    ran = sslx_command("run", "-p", "foo", "--epochs", "1", "--subset", "64", path=site)
    assert ran.returncode == 0, ran.stderr


def test_an_unknown_name_gets_the_nearest_and_says_which_plugins_failed(install: Install, sslx_command: Any) -> None:
    site = install("sslx-raises", "import no_such_module")
    done = sslx_command("run", "-p", "simva", path=site)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert (
        "there is no method 'simva' (did you mean 'simvae'?)" in done.stderr and "sslx-raises (broken)" in done.stderr
    )


def test_two_providers_of_a_name_are_both_named_and_either_can_be_chosen(install: Install, sslx_command: Any) -> None:
    for name in ("sslx-foo", "sslx-bar"):
        site = install(name, METHOD.format(module=name.replace("-", "_")))
        (site / f"{name.replace('-', '_')}_code.py").write_text(CODE)
    done = sslx_command("run", "-p", "foo", path=site)
    assert done.returncode == 2
    assert "provided by sslx-bar 1.0 and sslx-foo 1.0; write sslx-bar/foo or sslx-foo/foo" in done.stderr
    both = sslx_command("run", "-p", "sslx-bar/foo,random", "--epochs", "1", "--subset", "64", path=site)
    assert both.returncode == 0, both.stderr


def test_plugins_can_be_switched_off(install: Install, sslx_command: Any) -> None:
    site = install("sslx-foo", METHOD.format(module="sslx_foo"))
    for switch in ({"SSLX_DISABLE_PLUGINS": "sslx-foo"}, {"SSLX_PLUGINS": ""}):
        listed = sslx_command("plugins", "list", path=site, **switch).stdout
        assert "disabled" in listed and "Foo (Doe 2026)" not in listed and "simvae" in listed
    assert "Foo (Doe 2026)" in sslx_command("plugins", "list", path=site, SSLX_PLUGINS="foo").stdout


def test_a_target_that_cannot_be_imported_is_one_line(install: Install, sslx_command: Any) -> None:
    site = install("sslx-foo", METHOD.format(module="sslx_foo"))
    done = sslx_command("run", "-p", "foo", path=site)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "sslx-foo 1.0: method 'foo': module sslx_foo_code cannot be imported" in done.stderr


HOOKS = """
from sslx.api import hookimpl

@hookimpl
def sslx_run_start(run): print("start", run.name)

@hookimpl
def sslx_metrics(step, metrics):
    print("metrics", step, "loss" in metrics)
    if step == 2: raise RuntimeError("dashboard is down")

@hookimpl
def sslx_run_end(run, error): print("never reached, this plugin is muted")
"""


def test_a_failing_lifecycle_hook_is_muted_with_one_line_and_the_run_goes_on(
    install: Install, sslx_command: Any
) -> None:
    site = install("sslx-tracker", HOOKS)
    arguments = ["run", "-p", "vae", "--epochs", "4", "--subset", "64", "--set", "train.log_every=1"]
    done = sslx_command(*arguments, path=site)
    assert done.returncode == 0, done.stderr
    assert "start vae" in done.stdout and "metrics 2 True" in done.stdout
    assert "metrics 3" not in done.stdout and "never reached" not in done.stdout
    assert done.stderr.count("failed in sslx_metrics and is muted: dashboard is down") == 1


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
        ("./my_method.py", "say which class"),
        ("./my_method.py:Mien", "did you mean 'Mine'?"),
        ("./raises.py:Mine", "raises.py: cannot be imported: ZeroDivisionError"),
        ("./my_method.py:Encoder", "is no Method"),
    ],
)
def test_a_wrong_file_plugin_is_one_line(reference: str, message: str, command: Any, tmp_path: Path) -> None:
    (tmp_path / "my_method.py").write_text(FILE)
    (tmp_path / "raises.py").write_text("1 / 0")
    code, _, errors = command("run", "-p", reference)
    assert code == 2 and message in errors and len(errors.splitlines()) == 1


def test_the_defaults_of_a_component_are_of_its_own_package(install: Install, sslx_command: Any) -> None:
    code = "from sslx.api import hookimpl, prior\n\n@hookimpl\ndef sslx_components():\n"
    site = install("sslx-foo", code + "    yield prior('shared-mean', 'sslx_foo_code:Mine')")
    done = sslx_command("run", "-p", "simvae", "--epochs", "1", "--subset", "64", "-e", "linear", path=site)
    assert done.returncode == 0, done.stderr
    asked = sslx_command("run", "-p", "vae", "--set", "prior=shared-mean", path=site)
    assert asked.returncode == 2 and "write sslx/shared-mean or sslx-foo/shared-mean" in asked.stderr


def test_a_failing_evaluator_does_not_lose_the_scores_of_the_others(command: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from sslx.api import Evaluator\nclass Boom(Evaluator):\n    def evaluate(self, evaluation): raise ValueError('boom')"
    )
    code, output, errors = command("run", "-p", "random", "--subset", "64", "-e", "./bad.py:Boom,linear", "-o", "run")
    assert code == 1 and "linear: logistic regression" in output and "failed, ValueError: boom" in output
    assert "tries again" in errors and "Traceback" not in errors


def test_another_evaluation_keeps_the_results_before_it(tiny_run: Any, command: Any) -> None:
    run = tiny_run("random", "run")
    before = (run.path / "results.json").read_text()
    code, output, errors = command("eval", str(run.path), "-e", "linear")
    assert code == 0 and "linear" in output and "results-1.json" in errors
    assert (run.path / "results-1.json").read_text() == before
    assert set(run.results["trained"]) == {"knn", "linear"}
