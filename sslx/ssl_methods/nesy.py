"""A constraint alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sslx.ssl_methods.gedi import GEDI


class NeSy(
    GEDI, encoder={"use": "cnn", "dim": 64}, projector=(), energy=None, constraint="addition", balance_weight=0.0
):  # fmt: skip
    """A constraint alone: L_NESY, best satisfied by a trivial answer if the rule has one, as 0 + 0 = 0.

    With `balance_weight=400` it is GEDI with a constraint and without L_GEN.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"views": {"count": 1}}
