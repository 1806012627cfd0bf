"""What the terminal says: what was meant, lists that fit its width, and one name for one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from sslx.cli import cli
from sslx.cli.layout import columns, prose
from sslx.core.errors import SslxError
from sslx.core.options import reference
from sslx.core.training.config import RunConfig

Command = Callable[..., Any]
SMALL = ("--subset", "64", "--epochs", "1", "-e", "knn", "--device", "cpu", "--set", "encoder.hidden=8")


# --- what was meant ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run simvae", "unexpected argument simvae (did you mean --plugin simvae?)"),
        ("run simvae,vae", "unexpected argument simvae,vae (did you mean --plugin simvae,vae?)"),
        ("run simva", "unexpected argument simva (did you mean --plugin simvae?)"),
        ("run -p vae mnist --epochs 1", "unexpected argument mnist (did you mean --dataset mnist?)"),
        ("run folder:x ./m.py:Mine", "(did you mean --dataset folder:x --plugin ./m.py:Mine?)"),
        ("run ???", "unexpected argument ???; --plugin METHOD chooses a method"),
        ("run", "--plugin: expected the name of a method; `sslx plugins list --kind method` shows them"),
        ("eval --model timm:resnet18", "expected names of evaluators, or --protocol; choose from knn, linear"),
        ("run -p vae --views standrd", "views: there is no view policy 'standrd' (did you mean 'standard'?)"),
        ("run -p vae --views 0", "views.count: expected an integer > 0, got 0"),
        ("run -p vae --views 1.5", "views.count: expected an integer > 0, got 1.5"),
        ("swep", "there is no command 'swep'; choose from compare, data, embed"),
        ("plugins list --kind priors", "'priors' is not one of 'method', 'encoder'"),
    ],
)
def test_wrong_input_says_what_was_meant(arguments: str, said: str, command: Command) -> None:
    code, _, errors = command(*arguments.split())
    assert code == 2 and said in errors and errors.count("\n") == 1


def test_a_device_that_is_not_there_names_the_processor(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def lazy(*_: object) -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please install one from http://www.nvidia.com/x")

    monkeypatch.setattr("torch.cuda._lazy_init", lazy)
    code, _, errors = command("run", "-p", "vae", "--device", "cuda")
    reason = "Found no NVIDIA driver on your system; --device cpu uses the processor"
    assert (code, errors) == (2, f"sslx: device: 'cuda' cannot be used here: {reason}\n")


def test_views_are_a_number_or_a_policy_and_go_with_other_settings(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = []

    def start(config: RunConfig, *_: object) -> None:
        configs.append((reference(config.views), config.views.count))
        raise SslxError("this is enough")

    monkeypatch.setattr("sslx.runs.session.start", start)
    ways = ["--views 3", "--views simclr", "--views byol --set views.count=4", "--views 4 --set views=byol"]
    for way in ways:
        assert command("run", "-p", "vae", *way.split()).errors == "sslx: this is enough\n"
    assert configs == [("standard", 3), ("simclr", 2), ("byol", 4), ("byol", 4)]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_components_are_listed_by_kind_within_the_width(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = command("plugins", "list").output.splitlines()
        assert max(map(len, lines)) <= width
        assert lines.index("METHOD") < lines.index("ENCODER") < lines.index("STUDY")
        simvae = next(line for line in lines if line.startswith("  simvae "))
        assert simvae.split(maxsplit=1)[1] == "VAE whose related views share a cluster [SimVAE]"
    assert command("plugins", "list").output.startswith("PLUGIN")
    priors = command("plugins", "list", "--kind", "prior").output.splitlines()
    names = ["gaussian-mean", "hierarchical", "mixture", "shared-mean", "standard-normal", "vamp"]
    assert priors[0] == "PRIOR" and [line.split()[0] for line in priors[1:]] == names
    assert command("plugins", "show", "optimizers").output.splitlines()[1:3] == [
        "OPTIMIZER",
        "  adam   step sizes adapted to each weight [arXiv:1412.6980]",
    ]


@pytest.mark.parametrize("name", ["simvae", "gedi", "linear", "train", "views", "loader", "run", "mnist-addition"])
def test_options_are_shown_within_the_width(name: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        output = command("plugins", "show", name).output
        assert max(map(len, output.splitlines())) <= width and "{" not in output and "None" not in output


def test_recommendations_and_defaults_are_keys_and_values(command: Command) -> None:
    output = command("plugins", "show", "gedi-no-inv").output
    assert (
        "Recommended settings of a run:\n  evaluators = cluster (beside those of the dataset)\n  energy.magnitude = 0.0\n\nOptions:\n"
        in output
    )
    output = command("plugins", "show", "simvae").output
    assert "  encoder.hidden = [500, 500, 2000]  (a list, each item an integer > 0)\n      Widths of" in output
    assert "  encoder.posterior.bias = true  (true or false)\n" in output
    assert "  path  (a path, required)\n" in command("plugins", "show", "folder").output
    assert "train.evaluate  (options)\n" in command("plugins", "show", "train").output


def test_formulas_and_entries_of_docstrings_keep_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "34")
    doc = """What it is, in a line.

    It is more than
    one line of text.

        a = b + c
        d = e

    Scores:
        one: the first of all the scores,
            which has two lines.
    - an item
      of a list
    - another
    """
    assert (
        list(prose(doc, indent=2))
        == [
            "  What it is, in a line.",
            "",
            "  It is more than one line of",
            "  text.",
            "",
            "      a = b + c",
            "      d = e",
            "",
            "  Scores:",
            "      one: the first of all the",
            "          scores, which has two",
            "          lines.",
            "  - an item of a list",
            "  - another",
            "",
        ][:-1]
    )
    assert list(columns([("a", "b" * 3, "one two three four"), ("aa", "b", "")], 1)) == [
        " a   bbb  one two three four",
        " aa  b",
    ]


# --- one name for one thing -------------------------------------------------------------------------------------------


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(ctx := click.Context(group)):
        each = group.get_command(ctx, name)
        if isinstance(each, click.Group):
            yield from commands(each, f"{name} ")
        elif each is not None:
            yield above + name, each


def test_what_is_written_is_named_by_out(command: Command, tmp_path: Path) -> None:
    options = [(name, option.opts) for name, command in commands(cli) for option in command.params]
    found = {name: opts for name, opts in options if {"--out", "--to"} & {*opts}}
    assert all(opts == ["--out", "-o"] for opts in found.values())
    writing = {"run", "eval", "compare", "plot", "export", "embed", "report", "reproduce"}
    assert found.keys() == writing | {"data convert", "data preview", "plugins new"}
    for flag in ("--out", "-o", "--to"):  # the last one is the older name
        folder = tmp_path / flag.strip("-")
        assert command("plugins", "new", "sslx-mine", "--kind", "prior", flag, str(folder)).code == 0
        assert (folder / "sslx-mine" / "pyproject.toml").exists()
    help_text = command("export", "--help").output
    assert "-o, --out DIRECTORY" in help_text and "--to" not in help_text
    assert "Missing option '--out' / '-o'." in command("embed", "x").errors
    shown = command("embed", "--help").output
    assert "-d, --dataset TEXT" in shown and "--data " not in shown  # --data-dir is another option


# --- a crash ----------------------------------------------------------------------------------------------------------


def test_a_replay_says_where_a_nan_arose(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\n"
        "from sslx.families.vae import VAE\n"
        "class Bad(VAE):\n"
        "    def forward(self, views):\n"
        "        terms = super().forward(views)\n"
        "        value = (terms['prior'].value.detach() - terms['prior'].value).sqrt()\n"
        "        terms['prior'] = terms['prior']._replace(value=value * 0)\n"
        "        return terms\n"
    )
    code, _, errors = command("run", "-p", "./bad.py:Bad", *SMALL, "-o", "run")
    assert code == 1 and "sslx replay run" in errors
    code, output, errors = command("replay", "run", "--trust-code")
    lines = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    assert code == 0, errors
    assert output.startswith("step 1 of run again, from the weights before it\n")
    assert lines["terms of the loss"].startswith("reconstruction ") and "prior 0" in lines["terms of the loss"]
    assert lines["norm of the gradient"] == "nan" and lines["terms whose gradients are not finite"] == "prior"
    assert lines["first module with an output that is not finite"] == "none"
    where = "SqrtBackward0 of `value = (terms['prior'].value.detach() - terms['prior'].value).sqrt()`"
    assert where in output.replace("\n  ", " ") and "bad.py:6" in output
    assert "train.lr, which is 0.001" in output and "{" not in output


def test_a_replay_names_the_first_module_that_is_not_finite(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import torch\n"
        "from sslx.ssl_methods.networks.mlp import MLPDecoder\n"
        "class Bad(MLPDecoder):\n"
        "    def build(self, ctx):\n"
        "        made = super().build(ctx)\n"
        "        torch.nn.init.constant_(next(self.parameters()), 3e38)\n"
        "        return made\n"
    )
    words = ("-p", "vae", "--set", "decoder=./bad.py:Bad", "--set", "encoder.hidden=8")
    assert command("run", *words, "--subset", "64", "--epochs", "1", "-e", "knn", "-o", "run").code == 1
    output = command("replay", "run", "--trust-code").output
    assert "first module with an output that is not finite: decoder." in output
