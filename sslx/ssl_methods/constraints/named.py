from sslx.api import Predicate, option


class Addition(Predicate):
    """The third digit is the sum of the other two, a + b = c: 55 of the 1000 combinations (GEDI, App. N)."""

    domains = (10, 10, 10)

    def holds(self, *values: int) -> bool:
        a, b, c = values
        return a + b == c


class Equal(Predicate):
    """All images of a set have the same class."""

    variables: int = option(default=2, gt=1, help="Number of images in a set (n).")
    values: int = option(default=10, gt=1, help="Number of classes (K).")

    @property
    def domains(self) -> tuple[int, ...]:
        return (self.values,) * self.variables

    def holds(self, *values: int) -> bool:
        return len(set(values)) == 1
