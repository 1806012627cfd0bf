"""Constraints that have a name."""

from __future__ import annotations

from sslx.api import Predicate, option


class Addition(Predicate):
    """The third digit is the sum of the others, a + b = c: 55 of the 1000 combinations (GEDI, App. N)."""

    domains = (10, 10, 10)

    def holds(self, *values: int) -> bool:
        a, b, c = values
        return a + b == c


class Equal(Predicate):
    """All images of a set are of one class."""

    variables: int = option(default=2, gt=1, help="n, images of a set")
    values: int = option(default=10, gt=1, help="K, classes")

    @property
    def domains(self) -> tuple[int, ...]:
        return (self.values,) * self.variables

    def holds(self, *values: int) -> bool:
        return len(set(values)) == 1
