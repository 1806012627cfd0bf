"""The built-ins pass the checks that strangers' components are held to, and the checks find what they are for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ENCODER, SMALL

import sslx
from sslx.plugins.registry import registry
from sslx.testing import Check, parametrize_with_checks

METHODS = list(registry().providers("method"))
#: Methods whose loss moves with its target, or has a high floor: test_every_method sees their images separate.
MOVING = ("cor-info-max", "instance-discrimination", "moco", "moco-v2", "deep-cluster", "sela", "ibot")
NETWORK = {"hidden": [16]}
RULES = """nn(digit, [X], Y, [0, 1, 2]) :: digit(X, Y).
same(X, Y) :- digit(X, A), digit(Y, A).
query(same(0, 1)).
"""
OPTIONS: dict[str, dict[str, Any]] = {
    **{f"method:{name}": SMALL.get(name, ENCODER) for name in METHODS},
    "encoder:mlp": NETWORK,
    "decoder:mlp": NETWORK,
    "encoder:timm": {"model": "resnet10t"},
    **dict.fromkeys(("objective:queue-nce", "objective:neighbour-nce"), {"queue_length": 40}),
    "constraint:problog": {"rules": RULES},
    "prior:vamp": {"components": 20},
    "dataset:folder": {"path": "images"},
    "dataset:beton": {"path": "images.beton"},
    "tracker:trackio": {"project": "digits"},
    "study:file": {"file": str(Path(sslx.__file__).parent / "studies" / "gedi-table-2.toml")},
    "evaluator:mlp": {"steps": 250, "tuned": [0.1]},
    "evaluator:style": {"steps": 250},
    "evaluator:reconstruction": {"decoder": {"hidden": [64]}, "steps": 400, "lr": 3e-3},
}
#: Methods that learn a density and little else (test_energy).
DENSITIES = ("gedi-no-inv", "gedi-two-stage")
FAILURES = {
    **{f"method:{name}": {"overfits_one_batch": "its loss moves with its target"} for name in MOVING},
    **{f"method:{name}": {"overfits_one_batch": "its loss is a difference to its own samples"} for name in DENSITIES},
}


@parametrize_with_checks("sslx", options=OPTIONS, expected_failures=FAILURES)
def test_builtins_conform(
    check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sslx_images: Path, sslx_cli: Any
) -> None:
    monkeypatch.setenv("SSLX_DATA", str(tmp_path))  # the sets that are read from files have tests of their own
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(sslx_images.parent)
    if check.component == "constraint:problog":
        pytest.importorskip("problog", reason="the extra nesy is not installed")
    if check.component in ("dataset:beton", "loader:ffcv"):
        pytest.importorskip("ffcv", reason="the extra ffcv is not installed")
    if check.component == "dataset:beton":
        assert sslx_cli("data", "convert", "folder:images", "--to", "images.beton").code == 0
    check()
