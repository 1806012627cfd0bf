"""Label-free diagnosis of a training, from the terms of its loss."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from sslx.core.capabilities import Diagnoses, can
from sslx.core.terms import Terms

_RECORDS = 10  # the last records, which are averaged because one batch is noisy
_SUFFIX = "_excess"
_RESERVED = {"loss", "step", "epoch", "lr", "gradient_norm", "excess", "scores"}


def reserved(name: str) -> bool:
    """Whether the record of a step has a number of its own under this name, so that no term may have it."""
    return name in _RESERVED or name.endswith(_SUFFIX)


def excess(terms: Terms, values: Mapping[str, float]) -> dict[str, float]:
    """Distance of each term from its known minimum, and as `excess` their weighted sum if one has a weight."""
    known = {
        name: (term.weight, values[name] - term.minimum) for name, term in terms.items() if term.minimum is not None
    }
    found = {name + _SUFFIX: distance for name, (_, distance) in known.items()}
    if any(weight for weight, _ in known.values()):
        found["excess"] = sum(weight * distance for weight, distance in known.values() if weight)
    return found


def diagnose(method: object, metrics: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The label-free score of a training, where smaller is better, and a sentence on its terms, from its metrics.

    The score is the weighted distance of all terms from their known minima; the loss, if no term that counts has one.
    """
    if not (last := metrics[-_RECORDS:]):
        return {}
    names = dict.fromkeys(name for record in last for name in record)  # a term may come or go during training
    mean = {name: fmean(record[name] for record in last if name in record) for name in names}
    by = "excess" if "excess" in mean else "loss"
    distances = {name.removesuffix(_SUFFIX): value for name, value in mean.items() if name.endswith(_SUFFIX)}
    listed = ", ".join(f"{name} {distance:.4f}" for name, distance in distances.items())
    said = [f"loss terms above their known minimum (0 is perfect): {listed}"] if listed else []
    if can(method, Diagnoses):
        said.append(method.diagnosis(distances))
    return {"score": mean[by], "score_by": by, "excess": distances, "diagnosis": "; ".join(said)}
