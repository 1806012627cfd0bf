"""Wrong input gets one line each, all of them at once, and exit code 2. Right input repeats a run."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from sslx.api import Component, ConfigError, Context, Module, Prior, option, slot
from sslx.core.dotted import merge
from sslx.core.options import options_of, to_dict
from sslx.core.toml import dumps, loads
from sslx.core.training.config import configure
from sslx.core.values import Text
from sslx.families.vae import VAE
from sslx.ssl_methods.parts.priors import Mixture, SharedMean

Command = Callable[..., tuple[int, str, str]]


ODD = """
import torch
from sslx.api import Dataset, Method, Prior, Split, Terms
from sslx.families.vae import VAE

class Plain: pass

class NoRepresent(Method):
    def forward(self, views): return None

class Tensors(VAE):
    def forward(self, views): return super().forward(views).total

class NoDensity(Prior): pass

class One(Prior):
    def log_prob(self, z): return z.mean()

class Vector(VAE):
    def forward(self, views): return Terms(x=self.encoder(views.flat).mean.sum(dim=1))

class Constant(VAE):
    def forward(self, views): return Terms(x=torch.ones(()))

class Scalar(VAE):
    def represent(self, x): return self.encoder(x).mean.mean()

class Single(Dataset):
    def load(self, folder, offline): return Split(torch.zeros(9, 1, 8, 8, dtype=torch.uint8))

class Flat(Dataset):
    def load(self, folder, offline): return (Split(torch.zeros(9, 8, 8, dtype=torch.uint8)),) * 2

class Labels(Dataset):
    def load(self, folder, offline): return (Split(torch.zeros(9, 1, 8, 8, dtype=torch.uint8), torch.zeros(8)),) * 2
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-p simvae --set prior.varience=1", "method.prior.varience: shared-mean has no option 'varience' (did you mean 'variance'?)"),
        ("-p simvae --set prior.variance=-1", "method.prior.variance: expected a number > 0, got -1"),
        ("-p simvae --set prior.variance=nan", "method.prior.variance: expected a number > 0, got nan"),
        ("-p simvae --set prior=shared", "method.prior: there is no prior 'shared' (did you mean 'shared-mean'?)"),
        ("-p simvae --set encoder.hidden=500,a", "method.encoder.hidden: expected a list, each item an integer > 0, got 500,a"),
        ("-p simvae --set encoder.hidden=5,0", "method.encoder.hidden: expected a list, each item an integer > 0, got 5,0"),
        ("-p simvae --epochs many", "train.epochs: expected an integer >= 0, got many"),
        ("-p simvae --epochs 1.5", "train.epochs: expected an integer >= 0, got 1.5"),
        ("-p simvae --lr 0", "train.optimizer.lr: expected a number > 0, got 0"),
        ("-p simvae --set train.optimizer=vae", "train.optimizer: there is no optimizer 'vae'"),
        ("-p simvae --set seed=0.5", "seed: expected an integer >= 0"),
        ("-p simvae --set seed=9223372036854775808", "seed: expected an integer >= 0 and < 9.22337e+18"),
        (f"-p simvae --set seed={'9' * 5000}", "seed: expected an integer >= 0"),
        (f"-p simvae --set encoder.hidden={'[' * 3000}", "method.encoder.hidden: expected a list"),
        ("-p simvae --set subset=none,1", "subset: expected an integer > 0 or none, got none,1"),
        ("-p simvae --evaluators ,", "--evaluators: expected names of evaluators, or all"),
        ("-p simvae --device meta", "device: 'meta' cannot be used here"),
        ("-p simvae --set train.momentum=0.5", "train.optimizer.momentum: adam has no option 'momentum'"),
        ("-p simvae --set train.epoch=1", "train.epoch: Training has no option 'epoch' (did you mean 'epochs'?)"),
        ("-p simvae --set train.optimizer=adm", "train.optimizer: there is no optimizer 'adm' (did you mean 'adam'?)"),
        ("-p simvae --set train.compile=maybe", "train.compile: expected true or false, got maybe"),
        ("-p simvae --set views.crop=0.9,0.1", "views"),
        ("-p simvae --set lr=1", "method.lr: simvae has no option 'lr' (did you mean 'train.lr'?)"),
        ("-p simvae --set trian.lr=1", "method.trian: simvae has no option 'trian' (did you mean 'train'?)"),
        ("-p simvae --set views.kount=2", "views.kount: standard has no option 'kount' (did you mean 'count'?)"),
        ("-p simvae --set views=nothing", "views: there is no view policy 'nothing'; choose from aasae, byol"),
        ("-p simvae --dataset digit", "dataset: there is no dataset 'digit' (did you mean 'digits'?)"),
        ("-p simvae --evaluators knn,linea", "evaluators.linea: there is no evaluator 'linea' (did you mean 'linear'?)"),
        ("-p simvae --set evaluators.knn.neighbors=3", "evaluators.knn.neighbors: knn has no option 'neighbors' (did you mean 'neighbours'?)"),
        ("-p simvae --set prior", "--set prior: expected KEY=VALUE"),
        ("-p simvae --set encoder=timm:resnet1", "timm has no model 'resnet1'"),
        ("-p simvae --set encoder=timm", "method.encoder.model: timm needs this option: text"),
        ("-p simvae --set encoder=mlp:3", "mlp takes no argument after a colon"),
        ("-p simvae --subset 5000", "subset: expected at most"),
        ("-p simvae --subset 10", "train.batch_size: expected at most 10"),
        ("-p simvae --device gpu", "device: 'gpu' cannot be used here"),
        ("-p simvae --config missing.toml", "missing.toml: cannot be read"),
        ("-p simvae --sweep seed=0,1", "sweep: expected a file, got seed=0,1; `--seed 0,1,2` needs none"),
        ("-p simvae --config broken.toml", "broken.toml: not valid TOML"),
        ("-p simvae --config unknown.toml", "trian: RunConfig has no option 'trian' (did you mean 'train'?)"),
        ("-p simvae --config flat.toml", "epochs: RunConfig has no option 'epochs' (did you mean 'train.epochs'?)"),
        ("-p simvae --dataset mnist --offline --data-dir nowhere", "nowhere"),
        ("", "--plugin"),
        ("-p simvae --set prior.variance=inf", "method.prior.variance: expected a number > 0, got inf"),
        ("-p simvae,simvae", "simvae is named twice"),
        ("-p simvae --out /proc/x", "out: /proc/x cannot be written"),
        ("-p simvae --set encoder.posterior=delta", "a deterministic posterior has no entropy to maximize"),
        ("-p ./odd.py:Plain", "odd.py:Plain is not a Method"),
        ("-p ./odd.py:NoRepresent", "must define represent, as sslx.api.Method says"),
        ("-p ./odd.py:Tensors", "Tensors.forward must return Terms, it returned Tensor"),
        ("-p ./odd.py:Vector", "Vector.forward: term 'x' must be a tensor of one number, shape (), got (128,)"),
        ("-p ./odd.py:Constant", "Constant.forward: no term has a gradient"),
        ("-p vae --set prior=./odd.py:One", "One.log_prob must return a tensor of shape (64,), it returned ()"),
        ("-p vae --set prior=./odd.py:NoDensity", "must define log_prob, as sslx.api.Prior says"),
        ("-p vae --dataset ./odd.py:Single", "dataset Single: load must return a training and a test Split"),
        ("-p vae --dataset ./odd.py:Flat", "dataset Flat: training split: expected images as (n, C, H, W) uint8"),
        ("-p vae --dataset ./odd.py:Labels", "dataset Labels: training split: 9 images, but 8 labels"),
        ("-p vae --dataset moons --set views=standard", "views: expected images of uint8"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(arguments: str, message: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("a = = 1")
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "flat.toml").write_text("epochs = 1")
    (tmp_path / "unknown.toml").write_text("[trian]\nepochs = 1")
    code, _, errors = command("run", "--epochs", "1", *arguments.split())
    assert code == 2 and message in errors
    assert len([line for line in errors.splitlines() if line.startswith("sslx: ")]) == 1 and "Traceback" not in errors
    assert not list(tmp_path.glob("runs/*"))


def test_a_representation_of_the_wrong_shape_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    code, _, errors = command("run", "-p", "./odd.py:Scalar", "--epochs", "1", "--subset", "64", "-o", "run")
    assert code == 1 and errors.count("Scalar.represent must return (64, D), it returned ()") == 2  # knn and linear
    assert (tmp_path / "run" / "results.json").exists()  # what was trained is kept


@pytest.mark.parametrize("part", ["dataset", "method", "views", "loader"])
def test_a_part_that_has_no_name_is_refused(part: str) -> None:
    with pytest.raises(ConfigError, match=f"{part}: expected the name of a {part}.*got 3"):
        configure({"method": "vae"}, {part: 3})


def test_views_that_are_all_equal_are_told_of(tiny_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run("simclr", "equal", views={"crop": (1.0, 1.0)})
    assert capsys.readouterr().err.count("all 2 views of an image are equal, as nothing changes them") == 1
    tiny_run("simclr", "different")
    tiny_run("vae", "one", views={"crop": (1.0, 1.0), "count": 1})
    assert "are equal" not in capsys.readouterr().err


def test_all_mistakes_are_reported_together(command: Command) -> None:
    code, _, errors = command(
        "run", "-p", "simvae", "--epochs", "x", "--set", "prior.varience=1", "--set", "encoder.dim=-1", "-d", "digit"
    )
    assert code == 2 and len(errors.splitlines()) == 4
    for name in ("train.epochs", "method.prior.varience", "method.encoder.dim", "dataset"):
        assert f"sslx: {name}: " in errors


def test_a_run_is_repeated_by_its_config(command: Command, tmp_path: Path) -> None:
    arguments = ["-p", "simvae", "--epochs", "1", "--subset", "64", "--set", "prior=gaussian-mean", "--set"]
    code, _, errors = command("run", *arguments, "prior.scale=2", "--set", "encoder.hidden=16", "-o", "a", "-e", "knn")
    assert code == 0, errors
    assert command("run", "--config", "a/config.toml", "-o", "b")[0] == 0
    for name in ("config.toml", "metrics.jsonl", "results.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_order_of_settings_is_of_no_matter(command: Command, tmp_path: Path) -> None:
    for out, settings in (
        ("a", ["prior.scale=2", "prior=gaussian-mean"]),
        ("b", ["prior=gaussian-mean", "prior.scale=2"]),
    ):
        sets = [word for setting in settings for word in ("--set", setting)]
        code, _, errors = command("run", "-p", "vae", "--epochs", "0", "-e", "knn", "-o", out, *sets)
        assert code == 0, errors
    assert (tmp_path / "a" / "config.toml").read_text() == (tmp_path / "b" / "config.toml").read_text()


def test_later_layers_win_and_another_choice_drops_the_options_of_the_first() -> None:
    assert merge({"prior": {"use": "a", "x": 1}}, {"prior": {"x": 2}}) == {"prior": {"use": "a", "x": 2}}
    assert merge({"prior": {"use": "a", "x": 1}}, {"prior": {"use": "b"}}) == {"prior": {"use": "b"}}
    assert merge({"prior": {"use": "a", "x": 1}}, {"prior": "a"}) == {"prior": {"use": "a", "x": 1}}


def test_the_user_overrides_the_method_which_overrides_the_dataset() -> None:
    digits = configure({"method": "vae"})
    assert digits.views.crop == (0.6, 1.0)  # type: ignore[attr-defined]  # what digits recommends
    assert digits.train.epochs == 80 and configure({"method": "random"}).train.epochs == 0
    assert configure({"method": "random", "train": {"epochs": 3}}).train.epochs == 3


def test_a_dataset_recommends_options_only_for_parts_that_the_method_uses() -> None:
    def encoder(**method: Any) -> Any:
        return configure({"method": {"use": "vae", **method}}).method.encoder  # type: ignore[attr-defined]

    assert encoder().hidden == (256, 256)  # what digits recommends
    assert encoder(encoder={"dim": 3}).hidden == (256, 256)
    assert encoder(encoder={"hidden": [7]}).hidden == (7,)
    assert type(encoder(encoder="resnet18-small")).__name__ == "SmallResNetEncoder"
    assert configure({"method": "vae", "dataset": "mnist"}).method.encoder.hidden == (500, 500, 2000)  # type: ignore[attr-defined]


def test_a_part_that_is_recommended_can_be_left_out() -> None:
    layer = {"method": {"use": "gedi", "energy": "none"}, "dataset": "circles"}
    assert configure(layer).method.energy is None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"method.energy.steps: method.energy is none, which has no options"):
        configure(layer, {"method": {"energy": {"use": "none", "steps": 3}}})


def test_a_config_survives_toml() -> None:
    config = to_dict(configure({"method": {"use": "vae", "prior": {"use": "mixture", "components": 3}}, "subset": 5}))
    assert to_dict(configure(loads(dumps(config)))) == config


# --- components -------------------------------------------------------------------------------------------------------


class Everything(Component):
    number: float = option(default=1.0, gt=0, le=10, help="a number")
    choice: Literal["a", "b"] = option(default="a", help="a choice")
    pair: tuple[int, int] = option(default=(1, 2), help="a pair")
    maybe: int | None = option(default=None, help="maybe")
    text: str = option(default="", help="text")
    either: float | str = option(default=0.0, help="either")
    flag: bool = option(default=False, help="a flag")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("number", "1e-4", 1e-4), ("number", "3", 3.0), ("choice", "b", "b"), ("pair", "3,4", (3, 4)),
        ("pair", "[3, 4]", (3, 4)), ("maybe", "none", None), ("maybe", "7", 7), ("text", "1e-4", "1e-4"),
        ("text", "true", "true"), ("either", "2", 2.0), ("either", "auto", "auto"), ("flag", "true", True),
    ],
)  # fmt: skip
def test_text_is_read_by_the_type_of_the_option(name: str, text: str, value: Any) -> None:
    result = getattr(Everything(**{name: Text(text)}), name)
    assert result == value and type(result) is type(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0}, {"number": 11}, {"number": True}, {"number": "1"}, {"choice": "c"}, {"pair": (1,)},
        {"pair": (1, 2.5)}, {"maybe": 1.5}, {"text": 3}, {"flag": 1}, {"flag": "false"},
    ],
)  # fmt: skip
def test_python_values_are_held_to_the_same_types(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"Everything.{next(iter(wrong))}: expected"):
        Everything(**wrong)


def test_an_option_that_is_not_declared_as_one_is_refused() -> None:
    with pytest.raises(TypeError, match="option\\(default=3"):

        class Plain(Component):
            width: int = 3


def test_slots_are_filled_by_name_by_table_and_by_component() -> None:
    assert isinstance(VAE(prior="mixture").prior, Mixture)  # type: ignore[arg-type]
    assert VAE(prior={"use": "shared-mean", "variance": 2}).prior.variance == 2.0  # type: ignore[arg-type, attr-defined]
    prior = SharedMean(variance=3.0)
    assert VAE(prior=prior).prior is prior
    with pytest.raises(ConfigError, match="is no Prior|there is no prior"):
        VAE(prior="mlp")  # type: ignore[arg-type]


class Holder(Module):
    part: Prior | None = slot(default=None, help="optional")
    size: int = option(default=3, gt=0, help="of the weight")

    def build(self, ctx: Context) -> Context:
        self.weight = torch.nn.Parameter(torch.ones(self.size))
        self.register_buffer("queue", torch.zeros(2))
        return super().build(ctx)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def test_components_with_parameters_are_ordinary_modules() -> None:
    holder = Holder(size=2, part=Mixture())
    holder.build(Context((1, 8, 8), 10, latent=4))
    assert set(holder.state_dict()) == {"weight", "queue", "part.means", "part.logits"}
    for twin in (copy.deepcopy(holder), pickle.loads(pickle.dumps(holder))):
        assert twin.size == 2 and torch.equal(twin.weight, holder.weight) and twin.weight is not holder.weight
    holder.compile(backend="eager")
    assert torch.equal(holder(torch.ones(2)), torch.ones(2))
    assert set(holder.state_dict()) == {"weight", "queue", "part.means", "part.logits"}
    assert Holder().part is None


def test_every_option_of_every_builtin_is_documented() -> None:
    from sslx.core.training.config import RunConfig, Training
    from sslx.plugins.record import KINDS
    from sslx.plugins.registry import registry

    classes: list[Any] = [RunConfig, Training]
    for kind in KINDS:
        here = [n for n in registry().providers(kind) if n != "problog" or importlib.util.find_spec("problog")]
        classes += [registry().resolve(kind, name).cls for name in here]
    assert len(classes) > 20
    assert not [f"{c.__name__}.{o.name}" for c in classes for o in options_of(c).values() if not o.help]
    assert not [c.__name__ for c in classes if not c.__doc__]


def test_a_class_changes_inherited_defaults_in_its_head_line() -> None:
    class Tight(SharedMean, variance=0.01):
        """The same with another default."""

    class Clustered(VAE, prior={"use": "mixture", "components": 3}):
        """A slot with another default, and what it prefers for it."""

    assert Tight().variance == 0.01 and Tight(variance=0.5).variance == 0.5 and SharedMean().variance == 0.15
    assert options_of(Tight)["variance"].help == options_of(SharedMean)["variance"].help
    with pytest.raises(ConfigError, match="expected a number > 0"):
        Tight(variance=-1.0)
    plain: Any = Clustered().prior
    changed: Any = Clustered(prior={"variance": 0.7}).prior  # type: ignore[arg-type]
    assert isinstance(plain, Mixture) and plain.components == 3
    assert isinstance(changed, Mixture) and changed.components == 3 and changed.variance == 0.7
    assert isinstance(Clustered(prior="shared-mean").prior, SharedMean)  # type: ignore[arg-type]


def test_what_was_trained_before_a_plugin_went_wrong_is_kept(command: Command, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "from sslx.api import Terms\nfrom sslx.families.vae import VAE\nclass Late(VAE):\n    steps = 0\n"
        "    def after_step(self, step): self.steps += 1\n"
        "    def forward(self, views): return Terms(x=1.0) if self.steps == 3 else super().forward(views)\n"
    )
    code, _, errors = command("run", "-p", "./late.py:Late", "-o", "run", "--set", "train.log_every=1")
    assert code == 2 and "Late.forward: term 'x' must be a tensor" in errors
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
