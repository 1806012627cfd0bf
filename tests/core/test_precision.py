"""What `train.precision` promises: losses in float32, an exact resume with float16, and settings that are given back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sslx
from sslx.api import Context, Split, Terms, diagonal_normal
from sslx.core.training import precision
from sslx.core.training.config import configure
from sslx.core.training.engine import Engine
from sslx.core.training.run import build
from sslx.core.training.run_folder import RunFolder
from sslx.core.training.runtime import Runtime
from sslx.plugins.registry import registry

CPU = torch.device("cpu")


def names(kind: str) -> list[str]:
    return [name for name in registry().providers(kind) if name != "problog"]  # of an extra, and the same loss


def rounded(*shape: int) -> Tensor:
    """Numbers that bfloat16 has, in it."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).bfloat16()


def close(part: nn.Module, x: Tensor, loss: Callable[[nn.Module, Tensor], Any]) -> None:
    """Loss and gradient of 16-bit inputs under autocast are those of float64, as near as float32 is."""
    found = []
    exact = copy.deepcopy(part).double()
    with torch.autocast("cpu", torch.bfloat16):
        for made, inputs in ((part, x.float().requires_grad_()), (exact, x.double().requires_grad_())):
            value = loss(made, inputs if made is exact else inputs.bfloat16())
            (gradient,) = torch.autograd.grad(value, inputs)
            found.append((value.detach().double(), gradient.double()))
    (value, gradient), (true, steep) = found
    torch.testing.assert_close(value, true, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, steep, rtol=1e-2, atol=float(5e-3 * steep.abs().max()))  # which has 8 bits


def total(terms: Terms) -> Tensor:
    return terms.total


@pytest.mark.parametrize("name", names("objective"))
def test_objectives_are_computed_in_float32(name: str) -> None:
    part: Any = sslx.make("objective", name)
    torch.manual_seed(0)
    part.build(Context((1, 4, 4), 32, 2, 4, latent=8))
    close(part, rounded(32, 2, 8), lambda made, z: total(made(z, z)))


@pytest.mark.parametrize("name", names("prior"))
def test_priors_are_computed_in_float32(name: str) -> None:
    part: Any = sslx.make("prior", name)
    torch.manual_seed(0)

    def posterior(x: torch.Tensor) -> Any:
        return diagonal_normal(x.flatten(1)[:, :5], x.flatten(1)[:, 5:10])

    part.build(Context((1, 4, 4), 32, 2, 4, latent=5, posterior=posterior))
    close(part, rounded(16, 2, 5), lambda made, z: made(z).mean())


@pytest.mark.parametrize("name", names("constraint"))
def test_constraints_are_computed_in_float32(name: str) -> None:
    part: Any = sslx.make("constraint", name)
    part.build(Context((1, 4, 4), 32, 1, 4))
    sizes = list(part.domains)

    close(part, -rounded(16, sum(sizes)).abs(), lambda made, log_p: -made(log_p.split(sizes, dim=1)).mean())


def test_likelihoods_are_computed_in_float32() -> None:
    h, x = rounded(4, 1, 28, 28), torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    mean, wide = h.double().sigmoid(), x.double()
    gaussian = -0.5 * ((wide - mean).square() / 0.02 + math.log(2 * math.pi * 0.02)).sum(dim=(1, 2, 3))
    bernoulli = -F.binary_cross_entropy_with_logits(h.double(), wide, reduction="none").sum(dim=(1, 2, 3))
    for name, true in {"gaussian": gaussian, "bernoulli": bernoulli}.items():
        part: Any = sslx.make("likelihood", name)
        part.build(Context((1, 28, 28), 32))
        with torch.autocast("cpu", torch.bfloat16):
            found = part(h).log_prob(x)
        torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=1e-3)


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Engine]:
    """A small engine of 18 steps on images of noise."""

    def make(name: str, kind: str, **training: Any) -> Engine:
        options = {"epochs": 3, "batch_size": 16, "log_every": 1, "precision": kind, **training}
        small = {"use": "simclr", "encoder": {"use": "mlp", "hidden": [16]}, "projector": [8, 8], "norm": "none"}
        config = configure({"method": small, "train": options, "views": {"crop": (0.5, 1.0)}})
        images = torch.randint(0, 256, (96, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
        folder = tmp_path / name
        folder.mkdir()
        runtime = Runtime(CPU, precision=kind)
        made = build(config, (1, 8, 8), len(images))
        return Engine(config, made, Split(images), runtime, RunFolder(folder), lambda *_, **__: None, progress=False)

    return make


def test_every_precision_trains_alike(engine: Callable[..., Engine]) -> None:
    losses = {}
    for kind in ("fp32", "tf32", "bf16", "fp16"):
        (made := engine(kind, kind, epochs=1)).fit()
        losses[kind] = [record["loss"] for record in made.folder.metrics()]
    for kind in ("tf32", "bf16", "fp16"):
        assert losses[kind] == pytest.approx(losses["fp32"], rel=2e-2)
    assert losses["fp16"] != losses["fp32"]


def test_tf32_is_allowed_inside_a_step_only(engine: Callable[..., Engine]) -> None:
    seen = []
    made = engine("run", "tf32", epochs=1)
    made.method.head.register_full_backward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    made.method.head.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    before = torch.get_float32_matmul_precision()
    made.fit()
    assert set(seen) == {"high"} and len(seen) >= 12 and torch.get_float32_matmul_precision() == before != "high"


def test_a_resumed_run_in_float16_equals_the_uninterrupted_one(engine: Callable[..., Engine]) -> None:
    whole = engine("whole", "fp16", checkpoint_steps=4, checkpoint_keep=9)
    assert whole.scaler is not None
    whole.scaler.scale.fill_(2.0**32)  # the first steps overflow and are left out
    first = {name: value.clone() for name, value in whole.method.state_dict().items()}
    whole.fit()
    resumed = engine("resumed", "fp16", checkpoint_steps=4, checkpoint_keep=9)
    resumed.restore(whole.folder.checkpoints / "step-000000004")
    assert resumed.scaler is not None and resumed.scaler.scale == 2.0**28
    assert all(value.equal(first[name]) for name, value in resumed.method.named_parameters()), "all were left out"
    resumed.fit()
    assert resumed.scaler.scale.equal(whole.scaler.scale) and 2.0 < whole.scaler.scale < 2.0**28
    assert all(value.equal(whole.method.state_dict()[name]) for name, value in resumed.method.state_dict().items())
    assert resumed.folder.metrics() == whole.folder.metrics()[4:]
    assert "gradient_norm" not in whole.folder.metrics()[0] and "gradient_norm" in whole.folder.metrics()[-1]
    assert not whole.method.head[0].weight.equal(first["head.0.weight"])


def test_convolutions_are_stored_as_channels_last_where_their_encoder_asks_for_it() -> None:
    x = torch.rand(2, 3, 32, 32)
    for name, options, expected in (
        ("cnn", {}, True),
        ("resnet8", {"width": 8}, True),
        ("timm", {"model": "resnet10t"}, True),
        ("timm", {"model": "test_vit"}, False),
        ("mlp", {"hidden": [8]}, False),
    ):
        encoder: Any = sslx.make("encoder", name, **options)
        encoder.build(Context((3, 32, 32) if options.get("model") != "test_vit" else (3, 160, 160), 8))
        weights = [w for w in encoder.parameters() if w.ndim == 4 and w.shape[1] > 1 and w.shape[2] > 1]
        before = None if "vit" in str(options) else encoder.eval()(x).mean
        precision.arrange(nn.ModuleList([encoder]))
        last = {w.is_contiguous(memory_format=torch.channels_last) for w in weights}
        assert last == ({expected} if weights else set()), name
        if before is not None:
            torch.testing.assert_close(encoder(x).mean, before, rtol=1e-3, atol=1e-4)


def test_the_state_of_an_optimizer_follows_the_format_of_its_weights() -> None:
    """A checkpoint of a CPU is continued on a GPU, whose fused steps need both in the same order, and the reverse."""

    def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))).square().mean().backward()
        optimizer.step()

    plain = nn.Conv2d(3, 4, 3)
    last = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    first, second = (torch.optim.Adam(net.parameters(), fused=True) for net in (plain, last))
    step(plain, first)
    last.load_state_dict(plain.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    precision.match_strides(second)
    assert second.state[last.weight]["exp_avg"].stride() == last.weight.stride()
    for net, optimizer in ((plain, first), (last, second)):
        step(net, optimizer)
    torch.testing.assert_close(last.weight, plain.weight, rtol=1e-5, atol=1e-6)


def test_a_long_run_hears_once_what_this_processor_can_do(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    engine("short", "fp32", epochs=1).fit()
    assert "bf16" not in capsys.readouterr().err
    long = engine("long", "fp32", epochs=1)
    long.seconds = 100.0
    long.fit()
    assert capsys.readouterr().err.count("train.precision: bf16 about halves the time of a step") == 1
    assert not precision.advice("bf16", CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert not precision.advice("fp32", CPU)
