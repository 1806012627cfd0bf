"""Plugins that are damaged, stop the interpreter, or are wrong in silence: each is one line, and stops nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import sslx
from sslx.api import ConfigError, Context, Delta, Encoder, Tracker, hookimpl, option
from sslx.core import signals
from sslx.core.errors import PluginError
from sslx.core.options import options_of, to_dict
from sslx.plugins.registry import Registry

Install = Callable[..., Path]


def test_damaged_distributions_are_listed_as_broken(install: Install, sslx_command: Any) -> None:
    site = install("sslx-ctrl", "raise KeyboardInterrupt")
    install("sslx-panic", "class PanicException(BaseException): pass\nraise PanicException('called `unwrap()`')")
    install("sslx-binary", "")
    (site / "sslx_binary-1.0.dist-info" / "entry_points.txt").write_bytes(bytes(range(128, 256)))
    for name in ("gone", "nameless"):
        install(f"sslx-{name}", "")
        metadata = site / f"sslx_{name}-1.0.dist-info" / "METADATA"
        metadata.unlink() if name == "gone" else metadata.write_text("Metadata-Version: 2.1\nVersion: 1.0\n")
    listed = sslx_command("plugins", "list", path=site)
    assert listed.returncode == 0 and "Traceback" not in listed.stderr
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if "  broken  " in line}
    assert lines.keys() == {"ctrl", "panic", "sslx-binary", "gone", "nameless"}
    assert "KeyboardInterrupt" in lines["ctrl"] and "PanicException: called `unwrap()`" in lines["panic"]
    assert "entry_points.txt cannot be read" in lines["sslx-binary"]
    assert all("no name or version in METADATA" in lines[name] for name in ("gone", "nameless"))
    assert "simvae" in listed.stdout
    failed = sslx_command("compare", "nothing", path=site)  # needs torch, which reads the entry points of all
    assert failed.returncode == 1 and len(failed.stderr.splitlines()) == 1
    assert "sslx_binary-1.0.dist-info: entry_points.txt cannot be read" in failed.stderr
    assert "remove it or repair it" in failed.stderr


def test_the_users_interrupt_is_told_from_that_of_a_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(function: Callable[[], object]) -> bool:
        try:
            function()
        except BaseException as error:
            return signals.stops(error)
        raise AssertionError

    def raises() -> None:
        raise KeyboardInterrupt

    assert not stopped(raises) and not stopped(lambda: 1 / 0)
    monkeypatch.setattr(signals, "_received", signal.SIGINT)
    assert stopped(raises) and not stopped(lambda: 1 / 0)


class Stops:
    @hookimpl
    def sslx_epoch_end(self) -> None:
        raise KeyboardInterrupt


def test_a_hook_that_raises_what_is_no_exception_is_muted(
    sslx_registry: Registry, tiny_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sslx_registry.add("sslx-stops", Stops())
    assert tiny_run("vae", "run").folder.finished
    assert "sslx-stops/sslx-stops failed in sslx_epoch_end and is muted: KeyboardInterrupt" in capsys.readouterr().err


class Unmarked(Tracker):
    def sslx_metrics(self, step: int) -> None:
        raise AssertionError("it is not a hook")


class Overrides(Unmarked):
    """A hook of the base class, marked there or here, is the one that counts."""

    @hookimpl
    def sslx_metrics(self, step: int) -> None:
        pass


def test_a_method_that_is_named_like_a_hook_must_be_marked(sslx_registry: Registry) -> None:
    message = "tracker mine: sslx_metrics has the name of a hook, but is not marked"
    with pytest.raises(PluginError, match=message), sslx_registry.following({"mine": Unmarked()}):
        pass
    with sslx_registry.following({"mine": Overrides()}):
        pass
    plugin = sslx_registry.add("sslx-unmarked", Unmarked())
    assert plugin.status == "broken" and "not marked with @hookimpl" in plugin.reason


class Half(Encoder):
    def build(self, ctx: Context) -> Context:
        return ctx.but(latent=1)

    def forward(self, x: torch.Tensor) -> Delta:
        return Delta(x.flatten(1).mean(dim=1, keepdim=True))


class Sized(Half):
    """The number of dimensions has an effect, the posterior has none."""

    def build(self, ctx: Context) -> Context:
        return ctx.but(latent=self.dim)

    def forward(self, x: torch.Tensor) -> Delta:
        return Delta(x.flatten(1)[:, : self.dim])


class Declared(Half):
    dim: int = option(default=3, gt=0, help="Number of dimensions, which a function elsewhere reads.")


class Wrapped(Encoder):
    def build(self, ctx: Context) -> Context:
        return self.head(ctx, 2)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :2]

    def forward(self, x: torch.Tensor) -> Any:
        return super().forward(2 * x)


@pytest.mark.parametrize(
    ("encoder", "options"),
    [(Half, set()), (Sized, {"dim"}), (Declared, {"dim"}), (Wrapped, {"dim", "posterior"})],
)
def test_an_encoder_has_no_option_that_its_forward_ignores(encoder: Any, options: set[str]) -> None:
    assert options_of(encoder).keys() == options
    made = to_dict(sslx.make("method", "simclr", encoder=encoder))["encoder"]
    assert made.keys() == {"use", *options}
    for name, value in {"dim": 2, "posterior": "gaussian"}.items():
        if name in options:
            encoder(**{name: value})
        else:
            with pytest.raises(ConfigError, match=f"no option '{name}'; its forward does not use it"):
                encoder(**{name: value})


FILE = '''
import torch
from sslx.api import Encoder, Evaluator, Method, Result, Terms, option, slot

class Mine(Method):
    """A method with a fault."""

    encoder: Encoder = slot(default="mlp", posterior="delta", hidden=(16,), help="Network.")
    scale: float = option(help="Factor of the only term.")

    def build(self, ctx):
        self.calls = torch.nn.Buffer(torch.zeros(()))
        return super().build(ctx)

    def forward(self, views):
        self.calls += 1
        return Terms(size=self.scale * (self.encoder(views.flat).mean - 1).square().mean())

    def represent(self, x):
        return self.encoder(x).mean

class Score(Evaluator):
    def evaluate(self, evaluation):
        return Result({"one": 1.0}, {"images": 1}, "one")
'''


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(FILE)
    yield tmp_path / "mine.py"


def test_the_class_of_a_file_is_shown(file: Path, command: Any) -> None:
    code, output, errors = command("plugins", "show", "./mine.py:Mine")
    assert code == 0, errors
    assert "method Mine  A method with a fault." in output and "Factor of the only term." in output
    assert "encoder.hidden" in output and "simvae" not in output
    code, _, errors = command("plugins", "show", "./mine.py:torch")
    assert code == 2 and "./mine.py:torch is not a component" in errors


def test_the_class_of_a_file_is_checked(file: Path, command: Any) -> None:
    code, output, errors = command("plugins", "check", "./mine.py:Mine", "--set", "scale=2")
    assert code == 1 and "of the checks of ./mine.py:Mine failed" in errors
    outcomes = {line.split("  ")[1]: line.split("  ")[2] for line in output.splitlines()}
    failed = {name for name, outcome in outcomes.items() if outcome.startswith("FAILED")}
    assert failed == {"forward_changes_no_state"}
    assert outcomes["forward_changes_no_state"].startswith("FAILED: forward changes calls")
    assert len(errors.splitlines()) == 1  # the training in the checks says nothing


def test_required_options_of_what_is_checked_can_be_given(command: Any, sslx_images: Path) -> None:
    code, output, _ = command("plugins", "check", "folder")
    assert code == 0 and output.count("does not apply: --set path=VALUE is needed") == 5
    code, output, _ = command("plugins", "check", "folder", "--set", f"path={sslx_images}")
    assert code == 0 and "FAILED" not in output and "is needed" not in output
    code, _, errors = command("plugins", "check", "folder", "--set", "pth=x")
    assert code == 2 and "--set pth: folder has no option 'pth' (did you mean 'path'?)" in errors
    code, _, errors = command("plugins", "check", "trackers", "--set", "path=x")
    assert code == 2 and "expected the name of one component" in errors


def test_sections_of_a_run_are_shown(command: Any) -> None:
    code, output, _ = command("plugins", "show", "train")
    assert code == 0 and "train.epochs" in output and "train.optimizer.lr" in output and "views.crop" not in output
    assert "\ntrain.epochs = 20  (an integer >= 0)\n    Number of passes over the training set.\n" in output
    assert command("plugins", "show", "seed").output.startswith("seed = 0  (an integer >= 0")
    assert {"train.epochs", "views.crop", "seed"} <= set(command("plugins", "show", "run").output.split())
    assert "views.crop" in command("plugins", "show", "views").output
    code, _, errors = command("plugins", "show", "trainn")
    assert code == 2 and "did you mean 'train'?" in errors


def test_scores_of_the_evaluator_of_a_file_carry_no_path(file: Path, tiny_run: Any, command: Any) -> None:
    run = tiny_run("random", "run", evaluators=["./mine.py:Score", "knn"])
    assert list(run.results["trained"]) == ["Score", "knn"]
    assert str(file.parent) not in command("compare", "run", "--format", "csv").output
