"""Shared by the tests: small runs, other processes, and plugins installed for a moment."""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["sslx.testing.fixtures"]
os.environ["OMP_NUM_THREADS"] = "1"  # small tensors: threads would only wait for each other
os.environ["COLUMNS"] = "120"  # of tables, whatever the terminal
os.environ["SSLX_REPORT"] = "no"  # a report takes longer than a small run; tests of reports ask for them

#: A run of two epochs of six steps that takes about a second.
TINY: dict[str, Any] = {
    "dataset": "digits",
    "subset": 100,
    "train": {"epochs": 2, "batch_size": 16, "log_every": 1},
    "evaluators": {"knn": {"neighbours": 3}},
}
GENERATIVE = ("vae", "simvae", "beta-vae", "cr-vae", "aasae", "ae", "aaae")
ENCODER: dict[str, Any] = {"encoder": {"hidden": [16]}}
PROJECTED: dict[str, Any] = {**ENCODER, "projector": [8, 8]}
VIT: dict[str, Any] = {"patch_size": 2, "width": 16, "depth": 1, "heads": 2}
SGLD: dict[str, Any] = {"use": "sgld", "steps": 2, "chains": 40}
QUEUED: dict[str, Any] = {**PROJECTED, "objective": {"use": "queue-nce", "queue_length": 40}}
#: Options that make a method small; `ENCODER` does for those that are not named.
SMALL: dict[str, dict[str, Any]] = {
    **dict.fromkeys((*GENERATIVE, "colorization"), {**ENCODER, "decoder": {"hidden": [16]}}),
    **dict.fromkeys(
        ("simclr", "vicreg", "barlow-twins", "cor-info-max", "instance-discrimination", "lejepa", "dcl", "emp-ssl"),
        PROJECTED,
    ),
    **dict.fromkeys(("moco", "moco-v2"), QUEUED),
    "nnclr": {**PROJECTED, "predictor": [8, 8], "objective": {"use": "neighbour-nce", "queue_length": 40}},
    **dict.fromkeys(("byol", "simsiam", "moco-v3"), {**PROJECTED, "predictor": [8, 8]}),
    **dict.fromkeys(("swav", "dino", "proto-cpc"), {**PROJECTED, "prototypes": 4}),
    **dict.fromkeys(("deep-cluster", "sela"), {**PROJECTED, "clusters": 4}),
    **dict.fromkeys(("gedi", "jem", "gedi-no-inv", "gedi-no-prior"), {**ENCODER, "projector": [8], "energy": SGLD}),
    "gedi-two-stage": {**ENCODER, "projector": [8], "energy": SGLD, "generative_steps": 4},
    "gedi-no-gen": {**ENCODER, "projector": [8]},
    "ebclr": {**PROJECTED, "energy": SGLD},
    "mae": {"encoder": VIT, "width": 8, "depth": 1, "heads": 2},
    "ibot": {"encoder": VIT, "projector": [8, 8], "prototypes": 4},
    "i-jepa": {"encoder": VIT, "width": 8, "depth": 1, "heads": 2, "blocks": 2},
    "jigsaw": {**ENCODER, "grid": 2, "permutations": 4},
    "nesy": {
        "encoder": {"use": "mlp", "hidden": [16]},
        "constraint": {"use": "equal", "values": 3},
        "clusters": 3,
        "balance_weight": 50,
    },
}


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., Any]:
    """`tiny_run("simvae", "name", train={...})` makes a small run in tmp_path / name."""
    import sslx
    from sslx.core.dotted import merge

    def run(plugin: Any, name: str, /, **options: Any) -> Any:
        small = {"method": SMALL.get(plugin, {})} if isinstance(plugin, str) else {}
        layers = merge(TINY, small, options)
        return sslx.run(plugin, out=tmp_path / name, device="cpu", **layers)

    return run


@pytest.fixture
def sslx_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`sslx_command("plugins", "list")` in a process of its own, in tmp_path."""

    def run(*arguments: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sslx", *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(path or ""), "COLUMNS": "200", **environment},
        )

    return run


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """`install("sslx-foo", code, group="sslx.v1")` puts a distribution with one module on a path of its own."""
    site = tmp_path / "site"

    def install(name: str, code: str, group: str = "sslx.v1", version: str = "1.0") -> Path:
        module = name.replace("-", "_")
        info = site / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name.removeprefix('sslx-')} = {module}\n")
        (site / f"{module}.py").write_text(code)
        return site

    return install


@pytest.fixture
def here(
    install: Callable[..., Path], command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """`here("run", ...)` in this process, with what was installed: quicker than a process of its own."""
    from sslx.plugins.registry import registry

    site, modules = str(tmp_path / "site"), set(sys.modules)
    monkeypatch.syspath_prepend(site)

    def run(*arguments: str) -> Any:
        registry.cache_clear()
        importlib.invalidate_caches()
        return command(*arguments)

    yield run
    registry.cache_clear()
    for name in set(sys.modules) - modules:
        if (getattr(sys.modules[name], "__file__", "") or "").startswith(site):
            del sys.modules[name]


def together(folder: Path, script: str, *processes: int) -> list[str]:
    """What `python -c script` prints in a group for each number of processes, all at the same time, in a folder."""
    children = []
    for world in processes:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(world)}
        for rank in map(str, range(world)):
            member = {"RANK": rank, "LOCAL_RANK": rank, **group} if world > 1 else {}
            here = [str(Path(__file__).parent), str(Path(__file__).parent / "ssl_methods")]
            path = {"PYTHONPATH": os.pathsep.join([*here, *sys.path])}
            children.append(
                subprocess.Popen(
                    [sys.executable, "-c", script],
                    cwd=folder,
                    env={**os.environ, **path, **member},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
    printed = [child.communicate(timeout=240)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children), printed
    return printed


@pytest.fixture
def in_python() -> Callable[..., str]:
    """Run code in a fresh interpreter and return what it prints."""

    def run(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
        return done.stdout.strip()

    return run


def digest(path: Path, step: int | None = None) -> str:
    """A hash of all tensors of a run's last checkpoint, or of that of a step, names included."""
    import hashlib

    import torch

    from sslx.core.training import checkpoint

    def walk(value: Any, name: str) -> Iterator[bytes]:
        if isinstance(value, torch.Tensor):
            yield name.encode() + value.contiguous().numpy().tobytes()
        elif isinstance(value, dict):
            for key, item in value.items():
                if key not in ("seconds", "cpu_seconds"):
                    yield from walk(item, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                yield from walk(item, f"{name}.{i}")
        else:
            yield f"{name}={value!r}".encode()

    chosen, complaints = checkpoint.newest(path / "checkpoints")
    if step is not None:
        chosen = checkpoint.at(path / "checkpoints", step)
    assert chosen is not None and not complaints
    shared, local = checkpoint.load(chosen)
    return hashlib.sha256(b"".join([*walk(shared, "shared"), *walk(local, "local")])).hexdigest()


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file of a run as whoever wants to deceive would: with a hash that fits."""
    import json

    from sslx.core.files import sealed

    values = json.loads(path.read_text())
    values.pop("sha256")
    change(values)
    path.write_text(sealed(values))


@pytest.fixture
def command(sslx_cli: Callable[..., Any]) -> Callable[..., Any]:
    """`command("run", ...)` in this process, in tmp_path; returns (exit code, output, errors)."""
    return sslx_cli
