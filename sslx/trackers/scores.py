"""Scores as numbers by name, as dashboards take them."""

from collections.abc import Mapping
from typing import Any


def scores(report: Mapping[str, Any]) -> dict[str, float]:
    """What `sslx_evaluated` reports -> `{"trained/knn/accuracy": 0.97, ...}`."""
    return {
        f"{who}/{evaluator}/{score}": value
        for who in ("trained", "untrained", "pixels", "pca")
        for evaluator, result in report.get(who, {}).items()
        for score, value in result.get("scores", {}).items()
    }
