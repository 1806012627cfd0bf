"""Fine-tuning, held against a plain loop of torch and against the probe; and the protocols of papers."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_probes import CPU, Shift, blobs
from torch import nn
from torch.nn.functional import cross_entropy

import sslx
from sslx.api import Context, Evaluator, Method, Split, Use, permutation, seed_of
from sslx.core.training.config import configure
from sslx.core.training.evaluation import evaluate
from sslx.evaluators.common import draw
from sslx.evaluators.finetune import Finetune
from sslx.evaluators.probe import Probe

Command = Callable[..., Any]
TRAIN, TEST = blobs(120, 1, spread=1.5), blobs(200, 2, spread=1.5)
DOCS = Path(__file__).parents[2] / "docs" / "howto" / "evaluation.md"


def small() -> Method:
    """An untrained encoder of 5-dimensional points, with 6 features and a latent of 3."""
    method: Any = configure({"method": {"use": "random", "encoder": {"use": "mlp", "hidden": [8, 6], "dim": 3}}}).method
    torch.manual_seed(5)
    method.build(Context((5, 1, 1), 120))
    return method.eval()  # type: ignore[no-any-return]


def report(evaluator: Evaluator, method: Method, train: Split = TRAIN) -> Any:
    halves = (train, TEST)
    found = evaluate({"it": evaluator}, method, halves, Shift(), CPU, 0, lambda dataset: halves)["it"]
    assert "scores" in found, found
    return found


def test_fine_tuning_is_a_plain_loop_with_two_rates_and_leaves_the_method_alone() -> None:
    method = small()
    before = copy.deepcopy(method.state_dict())
    found = report(Finetune(epochs=5, batch_size=32, lr=0.1, lr_network=0.05), method)
    assert all(torch.equal(before[name], weight) for name, weight in method.state_dict().items())
    assert not method.training

    network: Any = copy.deepcopy(method).double().requires_grad_()
    torch.manual_seed(seed_of(Use.EVALUATION, 0))
    layer = nn.Linear(6, 4).double()
    encoder = [weight for name, weight in network.encoder.named_parameters() if "posterior" not in name]
    groups = [{"params": layer.parameters(), "lr": 0.1}, {"params": encoder, "lr": 0.05}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
    for epoch in range(5):
        for index in permutation(120, Use.EVALUATION, 0, epoch).split(32):
            optimizer.zero_grad()
            logits = layer(network.encoder.features(TRAIN.images[index].double()))
            cross_entropy(logits, TRAIN.labels[index]).backward()  # type: ignore[index]
            optimizer.step()
        schedule.step()
    right = layer(network.encoder.features(TEST.images.double())).argmax(dim=1) == TEST.labels  # type: ignore
    assert found["scores"] == {"finetune": pytest.approx(right.double().mean().item(), abs=1e-4)}
    assert found["protocol"]["weights"] == sum(weight.numel() for weight in encoder)


def test_without_a_rate_for_the_network_it_is_the_linear_probe_of_the_features() -> None:
    options = {"epochs": 4, "batch_size": 50, "lr": 0.3}
    frozen = report(Finetune(lr_network=0.0, **options), small())["scores"]["finetune"]
    assert frozen == report(Probe(of=("features",), **options), small())["scores"]["probe"]
    assert frozen != report(Finetune(lr_network=0.3, **options), small())["scores"]["finetune"]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 1.0])
def test_a_part_of_the_labels_is_drawn_from_every_class_by_the_seed(fraction: float) -> None:
    codes = torch.arange(1000) % 3 * (torch.arange(1000) % 2)  # 667, 167 and 166 images
    draws = [draw(codes, fraction, seed, 0).sort().values for seed in (0, 0, 1)]
    assert len(draws[0].unique()) == len(draws[0]) and torch.equal(draws[0], draws[1])
    expected = [max(1, round(size * fraction)) for size in codes.bincount().tolist()]
    assert codes[draws[0]].bincount().tolist() == codes[draws[2]].bincount().tolist() == expected
    assert torch.equal(draws[1], draws[2]) is (fraction == 1)


def test_a_fine_tuning_that_diverges_is_a_failure() -> None:
    halves = (TRAIN, TEST)
    evaluators = {"it": Finetune(lr_network=1e30, epochs=3)}
    found = evaluate(evaluators, small(), halves, Shift(), CPU, 0, lambda dataset: halves)["it"]
    assert "the fine-tuning diverged" in found["failed"]


def test_only_the_drawn_images_are_trained_on() -> None:
    found = report(Finetune(fraction=0.1, epochs=3), small())
    used = draw(TRAIN.labels, 0.1, 0, 0)  # type: ignore[arg-type]
    assert found["protocol"]["trained_on"] == len(used) == sum(found["protocol"]["per_class"])
    rest = torch.ones(120, dtype=torch.bool).index_fill(0, used, False)
    images = torch.as_tensor(TRAIN.images).clone()  # type: ignore[arg-type]
    images[rest] = 100.0
    assert report(Finetune(fraction=0.1, epochs=3), small(), Split(images, TRAIN.labels))["scores"] == found["scores"]


def commands(title: str, on_a_path: bool) -> list[list[str]]:
    """The words of the commands in a section of the page, of those that are for images at PATH or of the others."""
    text = DOCS.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", text.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    return [line.split()[1:] for block in blocks for line in block.splitlines() if ("PATH" in line) is on_a_path]


def test_the_commands_of_the_page_work(command: Command, tmp_path: Path) -> None:
    for title in ("Probes and fine-tuning", "Protocols"):
        for words in commands(title, on_a_path=False):
            code, _, errors = command(*words, *(["--subset", "200"] if words[0] == "run" else []))
            assert code == 0, (words, errors)
    results = sslx.open_run(tmp_path / "runs" / "mine").results
    assert {"probe", "finetune", "lp", "mp", "gmm"} <= results["trained"].keys() == results["untrained"].keys()


def test_one_command_pretrains_and_fine_tunes_with_few_labels(
    command: Command, sslx_images: Path, tmp_path: Path
) -> None:
    """As on CIFAR-10, with smaller images and fewer epochs."""
    (words,) = commands("Probes and fine-tuning", on_a_path=True)
    small = [word.replace("PATH", str(sslx_images)).replace("resnet18", "resnet8") for word in words]
    small += ["--epochs", "1", "--batch-size", "8", "--out", "run", "--set", "encoder.width=4"]
    for name in ("probe", "one-percent", "ten-percent"):
        small += ["--set", f"evaluators.{name}.epochs=2"]
    code, output, errors = command(*small)
    assert code == 0, errors
    assert "one-percent.finetune" in output and "ten-percent.finetune" in output and "probe-best-on-test" in output
    results = sslx.open_run(tmp_path / "run").results["trained"]
    assert [results[name]["protocol"]["per_class"] for name in ("one-percent", "ten-percent")] == [[1, 1], [2, 2]]
