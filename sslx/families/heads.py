"""Projection heads and predictors."""

from __future__ import annotations

from torch import nn


def activation(slope: float) -> nn.Module:
    """A ReLU, or with a slope below zero a leaky one."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


def head(widths: tuple[int, ...], features: int, norm: str, slope: float = 0.0) -> nn.Sequential:
    """Linear layers with batch normalisation, or none, and activations between them; nothing at all for no widths."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        between, normalised = i < len(widths) - 1, norm == "batch"
        layers.append(nn.Linear(features, width, bias=not (between and normalised)))  # the normalisation has a bias
        if between:
            layers += [nn.BatchNorm1d(width)] * normalised + [activation(slope)]
        features = width
    return nn.Sequential(*layers)
