"""What strangers write works: packages that `sslx plugins new` makes, and those under examples/, with all of sslx."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import SkipTest

import pytest
from conftest import SMALL

from sslx.core.errors import ConfigError, PluginError
from sslx.core.interfaces import Prior
from sslx.core.options import interface_of, options_of
from sslx.plugins.registry import Registry, registry
from sslx.plugins.scaffold import RUNS, create
from sslx.testing import checks

EXAMPLES = Path(__file__).parents[2] / "examples"


def python(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, which finds what is installed at `path`."""
    source = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(source)]), "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def test_new_packages_install_are_listed_pass_and_train(tmp_path: Path) -> None:
    """One kind, as it takes long; `.ci/run` does it for each, in the environment of all that it installs."""
    site, folders, kinds = tmp_path / "site", [], ("prior",)
    for kind in kinds:
        done = python("-m", "sslx", "plugins", "new", f"sslx-my-{kind}", "--kind", kind, cwd=tmp_path, path=site)
        assert done.returncode == 0, done.stderr
        folders.append(tmp_path / f"sslx-my-{kind}")
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = python("-m", "pip", "install", *offline, "--target", str(site), *map(str, folders), cwd=tmp_path, path=site)
    assert done.returncode == 0, done.stderr
    listed = python("-m", "sslx", "plugins", "list", cwd=tmp_path, path=site).stdout
    for kind in kinds:
        assert re.search(rf"^my-{kind} +sslx-my-{kind} 0.1.0 +ok +1 components$", listed, re.MULTILINE), listed
    # Their tests are the conformance checks, and the command of the README: a run.
    tests = [f"{folder}/tests" for folder in folders]
    options = ["-q", "--import-mode=importlib", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "-c", os.devnull]
    done = python("-m", "pytest", *options, *tests, cwd=tmp_path, path=site)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout
    line = next(line for line in (folders[0] / "README.md").read_text().splitlines() if line.startswith("sslx run"))
    done = python("-m", *line.split(), "--subset", "64", cwd=tmp_path, path=site)
    assert done.returncode == 0 and "\nsimvae " in done.stdout, done.stderr


def test_an_edit_reaches_the_tests_of_a_package_that_is_installed_as_its_readme_says(tmp_path: Path) -> None:
    """In an environment of its own, which sees the packages of this one."""
    import venv

    package = create("sslx-edited", "prior", tmp_path)
    venv.create(tmp_path / "env")
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    inner = str(tmp_path / "env" / "bin" / "python")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=package, capture_output=True, text=True, timeout=600)

    install, test = (package / "README.md").read_text().split("```")[-2].split("\n")[1:3]
    assert install.startswith("pip install") and test == "pytest"
    assert install in (EXAMPLES.parent / "docs" / "write" / "publish.md").read_text()
    assert all(install in path.read_text() for path in EXAMPLES.glob("*/README.md"))
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = run(sys.executable, "-m", "pip", "--python", inner, *shlex.split(install)[1:], *offline)
    assert done.returncode == 0, done.stderr
    tests = [inner, "-m", test, "-q", "-p", "no:cacheprovider", "-k", "density_is_a_number"]
    assert "\n1 passed" in (done := run(*tests)).stdout, done.stdout
    source = package / "src" / "sslx_edited" / "components.py"
    source.write_text(source.read_text().replace("sum(dim=(1, 2))", "sum(dim=2)"))
    assert "expected shape (8,), got (8, 1)" in (done := run(*tests)).stdout, done.stdout


def test_ci_makes_a_package_of_each_kind() -> None:
    line = re.search(r"^ *for kind in (.*); do$", (EXAMPLES.parent / ".ci" / "run").read_text(), re.MULTILINE)
    assert line and line[1].split() == list(RUNS)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("Sslx_Foo", "prior", "expected something like sslx-foo"),
        ("sslx-3d", "prior", "expected something like sslx-foo"),
        ("torch", "prior", "would hide the existing module 'torch'"),
        ("class", "prior", "would hide the existing module 'class'"),
        ("sslx-foo", "loader", "there is no template for the kind loader"),
        ("sslx-taken", "prior", "already exists; nothing was written"),
    ],
)
def test_what_cannot_become_a_package_is_one_line(name: str, kind: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sslx-taken").mkdir()
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        create(name, kind, tmp_path)
    assert len(error.value.problems) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["sslx-taken"]


# --- the examples -----------------------------------------------------------------------------------------------------


@pytest.fixture
def strangers(sslx_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    for folder in sorted(EXAMPLES.iterdir()):
        if (folder / "pyproject.toml").exists():
            monkeypatch.syspath_prepend(folder / "src")
            assert sslx_registry.add(folder.name, importlib.import_module(folder.name.replace("-", "_"))).status == "ok"
    assert {plugin.distribution for plugin in sslx_registry.plugins} >= {"sslx-tico", "sslx-shapes"}
    yield sslx_registry


def with_a_prior() -> list[str]:
    """The built-in methods with a slot for a prior."""
    found = []
    for name in (
        r.name for p in registry().plugins if p.distribution == "sslx" for r in p.records if r.kind == "method"
    ):
        options = options_of(registry().resolve("method", f"sslx/{name}").cls).values()
        if any(interface_of(option.type) is Prior for option in options):
            found.append(name)
    return found


#: Checks that say whether the parts of a method fit together.
FIT = (
    "loss_is_finite",
    "loss_is_finite_for_one_image",
    "gradients_reach_every_parameter",
    "resumed_equals_uninterrupted",
    "bfloat16_is_finite",
    "capabilities_return_what_they_promise",
)


@pytest.mark.parametrize("name", with_a_prior())
def test_a_strangers_prior_works_in_every_method_that_takes_one(name: str, strangers: Registry) -> None:
    assert len(with_a_prior()) >= 5
    label = f"method:{name}"
    options = {**SMALL[name], "prior": "von-mises-fisher", "beta": 1.0}
    chosen = [check for check in checks(label, {label: options}) if check.name in FIT]
    assert len(chosen) == len(FIT)
    for check in chosen:
        check()


def test_every_evaluator_works_on_a_strangers_method_and_data(
    strangers: Registry, sslx_cli: Callable[..., Any], tmp_path: Path
) -> None:
    small = ["mlp.steps=50", "style.steps=50", "reconstruction.steps=50", "reconstruction.decoder.hidden=16"]
    settings = [word for setting in small for word in ("--set", f"evaluators.{setting}")]
    data = ["--dataset", "shapes", "--subset", "200", "--epochs", "1"]
    done = sslx_cli("run", "--plugin", "tico", *data, "--evaluators", "all", *settings, "--out", "run")
    assert done.code == 0, done.errors
    import sslx.runs.session

    results = sslx.runs.session.open_run(tmp_path / "run").results["trained"]
    assert set(results) == set(strangers.providers("evaluator")) and "mig" in results
    skipped = {name: found["skipped"] for name, found in results.items() if "scores" not in found}
    assert skipped == {
        "cluster": "the method has no clusters of its own",
        "posterior": "the encoder gives no normal distribution",
        "ood": "the method has neither a density nor clusters",
        "samples": "the method draws no images",
        "fid": "the method draws no images",
    }


def test_the_examples_are_listed_with_where_they_come_from(strangers: Registry, sslx_cli: Callable[..., Any]) -> None:
    assert "prior von-mises-fisher" in sslx_cli("plugins", "show", "von-mises-fisher").output
    listed = sslx_cli("plugins", "list").output
    assert re.search(r"^sslx-shapes +sslx-shapes 0 +ok +2 components$", listed, re.MULTILINE)


# --- the kit itself ---------------------------------------------------------------------------------------------------

BAD = """
import torch
from torch import nn
from sslx.api import Prior, Method, Encoder, Terms, Evaluator, Result, Objective, Dataset, Split, ViewPolicy, Views
from sslx.api import Context, Optimizer, option, slot

class WrongScale(Prior):
    "Draws are wider than the density says."
    def build(self, ctx):
        self.register_buffer("zero", torch.zeros(ctx.latent))
        return ctx
    def log_prob(self, z):
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=(1, 2))
    def sample(self, n, views=1):
        return 1.1 * torch.randn_like(self.zero.expand(n, views, -1))

class NotNormalised(WrongScale):
    "Its density integrates to something else."
    def log_prob(self, z):
        return super().log_prob(z) + 0.2
    def sample(self, n, views=1):
        return torch.randn_like(self.zero.expand(n, views, -1))

class Related(WrongScale):
    "The views of a set are drawn alike, and the density does not know it."
    def sample(self, n, views=1):
        return torch.randn_like(self.zero.expand(n, 1, -1)).expand(-1, views, -1)

class Batchwise(Prior):
    "The density of a set depends on the others."
    def log_prob(self, z):
        return -(z - z.mean(dim=0)).square().sum(dim=(1, 2))

class Detached(Prior):
    "The gradient is half of what it should be."
    def log_prob(self, z):
        return -(z * z.detach()).sum(dim=(1, 2))

class Forgetful(Method):
    "Remembers something that no checkpoint has, and moves it in forward."
    encoder: Encoder = slot(default="mlp", hidden=(8,))
    silent: int = option(default=1, help="")
    def build(self, ctx):
        self.unused = nn.Linear(2, 2)
        self.seen = 0
        return super().build(ctx)
    def forward(self, views):
        self.seen += 1
        import random
        return Terms(size=self.encoder(views.flat).mean.square().mean() + 0.01 * self.seen + 0 * random.random())
    def represent(self, x):
        z = self.encoder(x).mean
        return z - z.mean(dim=0)

class Backwards(Evaluator):
    "Its score is the better the less the features tell."
    best = 1.0
    def evaluate(self, evaluation):
        correct = (evaluation.test.z.argmax(dim=1) == evaluation.test.labels).double().mean().item()
        return Result({"backwards": 1 - correct}, {"n": len(evaluation.test.z)}, "it is wrong")

class Forward(Objective):
    "Counts the images in their order."
    def forward(self, online, target):
        return Terms(first=(online[0] - target[0].mean()).square().sum())

class Dice(Dataset):
    "Other images each time."
    def load(self, folder, offline):
        return tuple(Split(torch.randint(0, 256, (20, 1, 8, 8)).byte()) for _ in range(2))

class Loose(ViewPolicy):
    "Draws from torch's generator."
    def __call__(self, images, index, *, seed, epoch, sizes=None):
        x = images.float() / 255
        noise = torch.rand(len(x), self.count, *x.shape[1:])
        return Views(x[:, None] + noise, x, index)

class Descent(Optimizer):
    "Gradient descent that passes the checks, and of which the others break one thing each."
    def build(self, groups):
        class Steps(torch.optim.Optimizer):
            @torch.no_grad()
            def step(steps):
                for group in steps.param_groups:
                    for weight in group["params"]:
                        self.move(weight, weight.grad, group["lr"], group["weight_decay"])
        return Steps(groups, {"lr": self.lr})
    def move(self, weight, grad, lr, decay):
        if grad is not None:
            weight.sub_(lr * (grad + decay * weight))

class Ascent(Descent):
    "Raises the loss."
    def move(self, weight, grad, lr, decay):
        super().move(weight, grad, -lr, decay)

class Noisy(Descent):
    "Draws from torch's generator."
    def move(self, weight, grad, lr, decay):
        super().move(weight, grad, lr * (0.5 + torch.rand(())), decay)

class Amnesiac(Descent):
    "Its momentum is not in its state."
    def move(self, weight, grad, lr, decay):
        if grad is not None:
            self.past = {} if not hasattr(self, "past") else self.past
            self.past[weight] = grad + 0.9 * self.past.get(weight, 0)
            super().move(weight, self.past[weight], lr, decay)

class Fixed(Descent):
    "Does not read the learning rate of the step."
    def move(self, weight, grad, lr, decay):
        super().move(weight, grad, 1e-3, decay)

class Eager(Descent):
    "Decays weights that have no gradient."
    def move(self, weight, grad, lr, decay):
        super().move(weight, 0 if grad is None else grad, lr, decay)

class Uniform(Descent):
    "Decays biases as well."
    def groups(self, module):
        return [{"params": list(module.parameters()), "weight_decay": self.weight_decay}]
"""
FOUND = {
    "prior:wrong-scale": {"draws_have_the_density"},
    "prior:not-normalised": {"density_integrates_to_one"},
    "prior:related": {"draws_have_the_density", "density_integrates_to_one"},
    "prior:batchwise": {"density_is_a_number_for_each_set"},
    "prior:detached": {"gradient_is_that_of_finite_differences"},
    "method:forgetful": {
        "gradients_reach_every_parameter",
        "resumed_equals_uninterrupted",
        "forward_changes_no_state",
        "global_state_is_left_alone",
        "represents_each_image_by_itself",
        "is_documented",
    },
    "evaluator:backwards": {"perfect_features_score_best"},
    "objective:forward": {"order_of_images_is_of_no_matter"},
    "dataset:dice": {"loads_the_same_every_time"},
    "views:loose": {"views_are_a_function_of_seed_epoch_and_image"},
    "optimizer:descent": set(),
    "optimizer:ascent": {"lowers_the_loss_of_a_regression"},
    "optimizer:noisy": {"steps_are_the_same_every_time", "training_continues_from_a_file"},
    "optimizer:amnesiac": {"training_continues_from_a_file"},
    "optimizer:fixed": {"rate_is_read_in_every_step"},
    "optimizer:eager": {"weights_without_gradient_stay"},
    "optimizer:uniform": {"weight_decay_spares_vectors"},
}


@pytest.fixture
def bad(sslx_registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Registry:
    from sslx.api import Record, hookimpl

    code = ModuleType("sslx_bad_code")
    monkeypatch.setitem(sys.modules, "sslx_bad_code", code)
    exec(BAD, code.__dict__)
    code.__file__ = __file__

    class Bad:
        @hookimpl
        def sslx_components(self) -> Iterator[Record]:
            for label in FOUND:
                kind, name = label.split(":")
                cls = "".join(part.capitalize() for part in name.split("-"))
                yield Record(kind, name, f"sslx_bad_code:{cls}", summary="bad")

    assert sslx_registry.add("sslx-bad", Bad()).status == "ok"
    return sslx_registry


@pytest.mark.parametrize("label", FOUND)
def test_the_checks_find_what_is_wrong(label: str, bad: Registry) -> None:
    failed = set()
    for check in checks(label):
        with suppress(SkipTest):
            try:
                check()
            except AssertionError:
                failed.add(check.name)
    assert failed >= FOUND[label] if label.startswith("method") else failed == FOUND[label]


def test_checks_run_from_the_shell(bad: Registry, sslx_cli: Callable[..., Any]) -> None:
    done = sslx_cli("plugins", "check", "prior:wrong-scale")
    assert done.code == 1 and "1 of the checks of prior:wrong-scale failed" in done.errors
    assert "prior:wrong-scale  density_is_a_number_for_each_set  ok" in done.output
    assert re.search("draws_have_the_density  FAILED: E.z ∂log p. . 1: -?0", done.output)
    good = sslx_cli("plugins", "check", "shared-mean")
    assert good.code == 0 and "does not apply: the prior is improper" in good.output


def test_wrong_names_of_components_and_checks_get_the_nearest() -> None:
    with pytest.raises(PluginError, match="no plugin or component 'sslx-fo'"):
        checks("sslx-fo")
    with pytest.raises(ConfigError, match="no component 'prior:mixtur'.*did you mean 'prior:mixture'"):
        checks("sslx", options={"prior:mixtur": {}})
    with pytest.raises(ConfigError, match="no check 'density_integrates'.*did you mean 'density_integrates_to_one'"):
        checks("mixture", expected_failures={"prior:mixture": {"density_integrates": "?"}})


def test_an_expected_failure_is_one_and_a_check_that_passes_after_all_is_not(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "from sslx.testing import parametrize_with_checks\n"
        'known = {"prior:shared-mean": {"is_documented": "it is"}}\n'
        '@parametrize_with_checks("shared-mean", expected_failures=known)\n'
        "def test_it(check): check()\n"
    )
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py", cwd=tmp_path, path=tmp_path)
    assert done.returncode == 1 and "XPASS(strict)" in done.stdout and "1 failed" in done.stdout, done.stdout
