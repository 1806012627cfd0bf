"""Batch normalization of several processes has the statistics of the joined batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import together
from torch import nn

from sslx.core.training.normalization import share_statistics

SCRIPT = """
import copy
import torch
import torch.distributed as dist
from torch import nn
from sslx.core.training.normalization import share_statistics

DEVICE = torch.device("cpu")
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}
dist.init_process_group("gloo")
half = slice(6 * dist.get_rank(), 6 * (dist.get_rank() + 1))
torch.manual_seed(0)

def near(got, expected):
    got, expected = got.double(), expected.double()
    assert (got - expected).norm() <= TOLERANCE[kind] * expected.norm(), (layer, options, kind)

for layer, shape in (nn.BatchNorm1d, (12, 5)), (nn.BatchNorm1d, (12, 5, 3)), (nn.BatchNorm2d, (12, 5, 4, 3)):
    for options in {}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}:
        for kind in TOLERANCE:
            one = layer(5, **options).to(DEVICE, torch.float64 if kind == torch.float64 else torch.float32)
            for weight in one.parameters():
                nn.init.normal_(weight)
            two = copy.deepcopy(one)
            share_statistics(two, DEVICE)
            x = (3 * torch.randn(shape, device=DEVICE) + 7).to(kind)
            x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
            target = torch.randn(shape, device=DEVICE)
            a, b = x.clone().requires_grad_(), x[half].clone().requires_grad_()
            for _ in range(2):  # running statistics move twice
                y, z = one(a), two(b)
            ((y - target) ** 3).sum().backward()
            ((z - target[half]) ** 3).sum().backward()
            assert z.dtype == y.dtype and z.stride() == y[half].stride()
            near(z, y[half])
            near(b.grad, a.grad[half])
            for p, q in zip(two.parameters(), one.parameters(), strict=True):
                dist.all_reduce(p.grad)
                near(p.grad, q.grad)
            expected, state = one.state_dict(), two.state_dict()
            assert list(state) == list(expected)
            for name in expected:
                near(state[name], expected[name])
            two.load_state_dict(expected)
            if dist.get_rank() == 0 and one.track_running_stats:
                assert two.eval()(x).equal(one.eval()(x))  # alone, as when a method is evaluated
            dist.barrier()
print("done")
"""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_two_processes_have_the_statistics_and_gradients_of_one(device: str, tmp_path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    said = together(tmp_path, SCRIPT.replace('"cpu"', repr(device)), 2)
    assert all(each.endswith("done\n") for each in said), said


def test_only_layers_that_compute_as_those_of_torch_are_changed(capsys: pytest.CaptureFixture[str]) -> None:
    class Named(nn.BatchNorm2d):
        """A layer that differs by its name alone."""

    class Ghost(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([super(Ghost, self).forward(part) for part in x.chunk(2)])

    network = nn.Sequential(nn.BatchNorm1d(4), Named(4), Ghost(4), Ghost(4))
    weights = list(network.parameters())
    share_statistics(network, torch.device("cpu"))
    share_statistics(network, torch.device("cpu"))  # a second time changes nothing
    assert [type(part).__name__ for part in network] == ["SharedBatchNorm1d", "SharedNamed", "Ghost", "Ghost"]
    assert all(a is b for a, b in zip(weights, network.parameters(), strict=True))
    line = "train.norm: 2 layers keep the statistics of each process, as Ghost has a forward of its own\n"
    assert capsys.readouterr().err == 2 * line
    share_statistics(network, torch.device("cuda"))  # what is shared stays as it is
    assert isinstance(network[0], nn.BatchNorm1d)
    cuda = nn.Sequential(nn.BatchNorm2d(4))
    share_statistics(cuda, torch.device("cuda"))
    assert isinstance(cuda[0], nn.SyncBatchNorm) and cuda.eval()(torch.zeros(2, 4, 3, 3)).shape == (2, 4, 3, 3)
