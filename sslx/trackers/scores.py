"""Scores as numbers by name, as dashboards take them."""

from collections.abc import Mapping
from typing import Any


def scores(report: Mapping[str, Any]) -> dict[str, float]:
    """The content of results.json -> `{"trained/knn/accuracy": 0.97, ...}`."""
    return {
        f"{who}/{evaluator}/{score}": value
        for who, results in report.items()
        for evaluator, result in results.items()
        for score, value in result.get("scores", {}).items()
    }
