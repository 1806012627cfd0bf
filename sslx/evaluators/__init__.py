"""The built-in evaluators, as a plugin like any other."""

from __future__ import annotations

from collections.abc import Iterator

from sslx.api import Record, evaluator, hookimpl


@hookimpl
def sslx_components() -> Iterator[Record]:
    yield evaluator("knn", "sslx.evaluators.knn:KNN", summary="nearest neighbours, exact search by FAISS")
    yield evaluator("linear", "sslx.evaluators.linear:Linear", summary="logistic regression on frozen features")
