"""Wherever a name is accepted from Python, a class or an object is too, from a file, a package or a notebook cell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

import sslx
from sslx.api import Dataset, Evaluation, Evaluator, Objective, Prior, Result, Split, Term, Terms, ViewPolicy, option
from sslx.core.errors import ConfigError
from sslx.evaluators.knn import KNN
from sslx.ssl_methods.parts.priors import Mixture
from sslx.ssl_methods.simclr import SimCLR
from sslx.ssl_methods.simvae import SimVAE

#: A script such as a notebook is: everything in `__main__`.
SCRIPT = """
import sys
import torch
import sslx
from sslx.api import *

class MyPrior(Prior):
    "Views scatter around their median."
    scale: float = option(default=0.3, gt=0, help="Scale of the scatter.")

    def log_prob(self, z):
        return -(z - z.median(dim=1, keepdim=True).values).abs().sum(dim=(1, 2)) / self.scale

class Spread(Objective):
    def forward(self, online, target):
        return Terms(distance=(online - target.roll(1, 1)).square().mean(), spread=-online.std().log())

class MyMethod(JointEmbedding, projector=(8,), encoder={"use": "mlp", "hidden": (16,)}):
    "Views are close, the batch is wide."
    objective: Objective = slot(default=Spread, help="What is minimized.")

class Narrow(Evaluator):
    "Share of the variance in the first principal component."
    def evaluate(self, evaluation):
        s = torch.linalg.svdvals(evaluation.test.z - evaluation.test.z.mean(0))
        return Result({"narrow": float(s[0] ** 2 / s.square().sum())}, {}, "of the test set")

class Sign(Optimizer, lr=1e-3):
    def build(self, groups):
        class Torchs(torch.optim.Optimizer):
            @torch.no_grad()
            def step(self, closure=None):
                for group in self.param_groups:
                    for weight in group["params"]:
                        if weight.grad is not None:
                            weight.sub_(weight.grad.sign() * group["lr"])
        return Torchs(groups, {"lr": self.lr})

small = {"subset": 100, "device": "cpu"}
train = {"epochs": 2, "batch_size": 20, "optimizer": Sign(lr=2e-3)}
if __name__ == "__main__":
    first = sslx.run(MyMethod, out="first", train=train, evaluators=[Narrow(), "knn"], **small)
    second = sslx.run("simvae", prior=MyPrior(scale=0.5), out="second", train=train, evaluators=[Narrow], **small)
    sslx.evaluate(second, [KNN := sslx.make("evaluator", "knn", neighbours=3)])
    print(first, second)
    print(sslx.compare(first, "second"))
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)

    return run


def test_a_notebook_with_everything_of_its_own(
    script: Callable[..., Any], command: Callable[..., Any], tmp_path: Path
) -> None:
    done = script(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert (
        "first: its config alone cannot repeat it; to resume it, give objects=[MyMethod, Spread, Narrow, Sign]"
        in done.stderr
    )
    assert "<Run first: MyMethod on digits, finished, Narrow " in done.stdout
    assert "Narrow.narrow" in done.stdout and "knn" in done.stdout
    facts = json.loads((tmp_path / "first" / "run.json").read_text())
    sources = {c["name"]: c["source"] for c in facts["components"] if "source" in c}
    assert sources.keys() == {"__main__:MyMethod", "__main__:Spread", "__main__:Narrow", "__main__:Sign"}
    done = command("compare", "first", "second")  # looks at results alone
    assert done.code == 0 and "Narrow.narrow" in done.output, done.errors
    done = command("eval", "first", "-e", "geometry")
    assert done.code == 2 and "give it as an object, such as sslx.resume(RUN, objects=[MyMethod])" in done.errors


def test_a_stopped_run_of_objects_goes_on_with_the_objects(script: Callable[..., Any], tmp_path: Path) -> None:
    run = "sslx.run(MyMethod, out={!r}, train={{**train, 'checkpoint_steps': 3}}, evaluators=[Narrow()], **small)\n"
    definitions = SCRIPT.split("if __name__")[0]
    stop = "from sslx.core import signals\nsignals.received = lambda: 'SIGTERM'\n"
    stopped = script(definitions + stop + run.format("stopped"))
    assert "stopped by SIGTERM" in stopped.stderr
    again = """
try:
    sslx.resume("stopped")
except Exception as error:
    print(type(error).__name__, error)
sslx.resume("stopped", objects=[MyMethod, Spread, Narrow, Sign])
sslx.open_run("whole", objects=[MyMethod, Spread, Narrow, Sign(lr=0.5)]).config
"""
    done = script(definitions + run.format("whole") + again)
    assert "ConfigError" in done.stdout and "objects=[MyMethod]" in done.stdout, done.stderr
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]
    assert "is not what the run was made with" in done.stderr


class Halves(Dataset):
    """Two classes of noise of different brightness."""

    n: int = option(default=64, gt=1, help="Number of images.")

    def load(self, folder: Path, offline: bool) -> tuple[Split, Split]:
        labels = torch.arange(self.n) % 2
        images = torch.rand(self.n, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 100
        images = (images + 100 * labels[:, None, None, None]).to(torch.uint8)
        return Split(images, labels), Split(images[:16], labels[:16])


class Mean(Evaluator):
    def evaluate(self, evaluation: Evaluation) -> Result:
        return Result({"mean": float(evaluation.test.z.mean())}, {}, "the mean feature")


SMALL: dict[str, Any] = {"device": "cpu", "train": {"epochs": 1, "batch_size": 16}}


@pytest.mark.parametrize("dataset", [Halves, Halves(n=48), {"use": Halves, "n": 48}])
def test_every_place_takes_classes_objects_and_names(dataset: Any, tmp_path: Path) -> None:
    method = SimVAE(prior=Mixture(components=3), encoder={"use": "mlp", "hidden": (8,)}, decoder="mlp")  # type: ignore
    views = sslx.make("views", "standard", crop=(0.5, 1.0), count=3)
    run = sslx.run(
        method, dataset=dataset, views=views, evaluators={"a": KNN(neighbours=3), "b": {"use": "knn"}, "c": Mean},
        out=tmp_path / "run", **SMALL,
    )  # fmt: skip
    assert run.results["trained"].keys() == {"a", "b", "c"}
    settings = run.folder.config()
    assert settings["method"]["use"] == "simvae" and settings["method"]["prior"]["use"] == "mixture"
    assert settings["dataset"]["use"] == f"{Halves.__module__}:Halves" and settings["views"]["count"] == 3
    assert settings["evaluators"]["a"]["use"] == settings["evaluators"]["b"]["use"] == "knn"
    again = sslx.run(config=run.folder.config(), out=tmp_path / "again", device="cpu")
    assert (again.path / "metrics.jsonl").read_bytes() == (run.path / "metrics.jsonl").read_bytes()


def test_what_was_given_whole_has_no_options_beside_it() -> None:
    with pytest.raises(ConfigError, match=r"^temperature: cannot be set beside .*InfoNCE.*, which was given whole"):
        sslx.run("simclr", objective=sslx.make("objective", "info-nce"), method={"objective": {"temperature": 0.1}})
    with pytest.raises(ConfigError, match="method: is given twice, as the first argument and in `method`"):
        sslx.run("simvae", method="vae")
    with pytest.raises(ConfigError, match="method.prior: Halves is not a Prior|Halves is not a Prior"):
        sslx.run("simvae", prior=Halves)
    with pytest.raises(ConfigError, match=r"method.prior: expected the name of a prior or a table of options, got 5"):
        sslx.run("simvae", prior=5)


def test_keywords_of_run_are_what_set_takes(tmp_path: Path) -> None:
    run = sslx.run(
        "simvae", prior="mixture", encoder={"hidden": [8]}, decoder={"hidden": [8]}, subset=64, seed=3,
        evaluators={"knn": {"neighbours": 3}}, out=tmp_path / "run", train={"epochs": 1, "lr": 0.01}, device="cpu",
    )  # fmt: skip
    settings = run.settings
    assert settings["method"]["prior"]["use"] == "mixture" and settings["seed"] == 3 and settings["subset"] == 64
    assert list(settings["evaluators"]) == ["knn"] and settings["evaluators"]["knn"]["neighbours"] == 3
    assert settings["train"]["optimizer"]["lr"] == 0.01


def test_make_builds_any_component_by_name() -> None:
    prior = sslx.make("prior", "mixture", components=20)
    assert isinstance(prior, Mixture) and prior.components == 20
    encoder = sslx.make("encoder", "timm:resnet10t", dim=4)
    assert encoder.model == "resnet10t" and encoder.dim == 4  # type: ignore[attr-defined]
    assert sslx.make("objective", SimCLR().objective.__class__, temperature=0.1).temperature == 0.1  # type: ignore
    with pytest.raises(ConfigError, match=r"there is no kind 'piror' of component \(did you mean 'prior'\?\)"):
        sslx.make("piror", "mixture")
    with pytest.raises(ConfigError) as error:
        sslx.make("prior", "mixture", component=20, variance=-1)
    assert error.value.problems == [
        "prior.component: mixture has no option 'component' (did you mean 'components'?)",
        "prior.variance: expected a number > 0, got -1",
    ]


def test_a_constructor_names_all_its_mistakes_and_shows_its_options() -> None:
    with pytest.raises(ConfigError) as error:
        Mixture(components=0, varianse=1.0)  # type: ignore[call-arg]
    assert [line.split(":")[0] for line in error.value.problems] == ["Mixture.varianse", "Mixture.components"]
    assert "components" in str(__import__("inspect").signature(Mixture))
    assert repr(Mixture(components=3)) == "Mixture(components=3, variance=0.15, weights='learned', assignment='soft')"
    assert "beta=1.0" in repr(SimVAE()) and "(prior): SharedMean(variance=0.15)" in repr(SimVAE())


def test_a_default_may_be_a_class_of_the_same_file(
    command: Callable[..., Any], sslx_command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from sslx.api import JointEmbedding, Objective, Terms, option, slot\n\n"
        "class Near(Objective):\n    weight: float = option(default=1.0, help='Weight.')\n"
        "    def forward(self, online, target):\n        return Terms(near=(online - target.roll(1, 1)).square().mean())\n\n"
        "class Method(JointEmbedding, encoder={'use': 'mlp', 'hidden': (8,)}):\n    'Views are close.'\n"
        "    objective: Objective = slot(default=Near, weight=2.0)\n"
    )
    words = ["--subset", "64", "--epochs", "1", "-e", "knn"]
    done = command("run", "-p", "./mine.py:Method", *words, "--set", "objective.weight=3", "-o", "run")
    assert done.code == 0, done.errors
    settings = sslx.open_run(tmp_path / "run").settings
    assert settings["method"]["objective"] == {"use": f"{tmp_path}/mine.py:Near", "weight": 3.0}
    refused = sslx_command("eval", "run", "-e", "linear")  # a process in which nobody named the file
    assert refused.returncode == 2 and "mine.py:Method is code that the files of a run name" in refused.stderr
    trusted = sslx_command("eval", "run", "-e", "linear", "--trust-code")
    assert trusted.returncode == 0 and f"trusted: {tmp_path}/mine.py, sha256 " in trusted.stderr


def test_scores_of_a_files_evaluator_have_its_short_name(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from sslx.api import Evaluator, Result, option\n\nclass Two(Evaluator):\n"
        "    x: float = option(default=2.0, help='The score.')\n"
        "    def evaluate(self, evaluation):\n        return Result({'two': self.x}, {}, 'always')\n"
    )
    done = command(
        "run", "-p", "random", "--subset", "64", "-e", "./mine.py:Two,knn", "--set", "evaluators.Two.x=3", "-o", "run"
    )
    assert done.code == 0 and "Two.two" in done.output and str(tmp_path) not in done.output.split("run:")[0], (
        done.errors
    )
    assert sslx.open_run(tmp_path / "run").results["trained"]["Two"]["scores"] == {"two": 3.0}
    done = command("eval", "run", "-e", "./mine.py:Two", "--set", "Two.x=4")
    assert done.code == 0 and sslx.open_run(tmp_path / "run").results["trained"]["Two"]["scores"] == {"two": 4.0}


def test_a_misspelt_class_keyword_is_one_line() -> None:
    with pytest.raises(
        ConfigError, match=r"class X: there is no option 'objectiv' to change \(did you mean 'objective'"
    ):

        class X(SimCLR, objectiv="vicreg"):  # type: ignore[call-arg]
            pass


def test_a_class_in_a_module_that_another_process_cannot_import_is_an_object(tmp_path: Path) -> None:
    module = ModuleType("made_up_module")
    exec(
        "from sslx.api import Prior\nclass Far(Prior):\n    def log_prob(self, z): return -z.square().sum((1, 2))",
        vars(module),
    )
    run = sslx.run(SimVAE(prior=module.Far()), out=tmp_path / "run", subset=64, evaluators=["knn"], **SMALL)
    (facts,) = (c for c in json.loads((run.path / "run.json").read_text())["components"] if c["kind"] == "prior")
    assert facts["name"] == "made_up_module:Far" and "source" in facts


@pytest.mark.parametrize("method", [SimVAE, SimVAE(prior="mixture"), "simvae"])  # type: ignore[arg-type]
def test_a_representation_takes_classes_and_objects(method: Any) -> None:
    X = numpy.random.default_rng(0).integers(0, 256, (40, 8, 8), numpy.uint8)
    options = {} if isinstance(method, SimVAE) else {"prior": Mixture(components=3)}
    made = clone(sslx.Representation(method, train__epochs=1, train__batch_size=20, **options))
    assert made.fit(X).transform(X).shape == (40, 10)
    assert made.config_["method"]["prior"]["use"] == "mixture"
    assert made.inverse_transform(made.transform(X)).shape == (40, 8, 8)


class Plain(ViewPolicy):
    def __call__(self, images: Tensor, index: Tensor, **_: Any) -> Any:
        raise NotImplementedError


def test_types_of_parts_are_what_the_slots_say() -> None:
    assert isinstance(SimCLR(objective="vicreg").objective, Objective)  # type: ignore[arg-type]
    assert isinstance(SimVAE(prior=Mixture).prior, Prior)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"SimVAE.prior: .*Plain is not a Prior"):
        SimVAE(prior=Plain)  # type: ignore[arg-type]
    assert Terms(a=Term(torch.tensor(1.0))).total == 1.0
