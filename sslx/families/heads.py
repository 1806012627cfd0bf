from __future__ import annotations

from torch import nn


def activation(slope: float) -> nn.Module:
    """A ReLU, or a leaky ReLU if its slope for negative inputs is not 0."""
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


def head(widths: tuple[int, ...], features: int, norm: str, slope: float = 0.0) -> nn.Sequential:
    """Linear layers of these widths; between them activations and, if `norm` is "batch", batch normalization."""
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        between, normalized = i < len(widths) - 1, norm == "batch"
        layers.append(nn.Linear(features, width, bias=not (between and normalized)))  # the normalization has a bias
        if between:
            layers += [nn.BatchNorm1d(width)] * normalized + [activation(slope)]
        features = width
    return nn.Sequential(*layers)
