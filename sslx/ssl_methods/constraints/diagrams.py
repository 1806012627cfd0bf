"""Multi-valued decision diagrams: rules over finite domains as layers that torch evaluates for a whole batch.

Their nodes are plain numbers, so that the process that compiles a rule needs no torch.
"""

import functools
from collections.abc import Sequence

FALSE, TRUE = 0, 1  # the two leaves
_MOST_NODES = 1_000_000


class TooLarge(Exception):
    """A rule needs more nodes than can be summed over."""


class Diagrams:
    """Reduced, ordered decision diagrams that share their nodes; a diagram is the number of its root node.

    A node asks for one variable and has one child for each of its values. Equal nodes exist only once, so two diagrams
    are the same rule if and only if they are the same number. `sizes` has the number of values of each variable, in the
    order in which they are asked for.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self._nodes: list[tuple[int, tuple[int, ...]]] = [(len(sizes), ())] * 2  # (variable, children)
        self._numbers: dict[tuple[int, tuple[int, ...]], int] = {}
        self._combined: dict[tuple[int, int, int], int] = {}
        self._negated = {FALSE: TRUE, TRUE: FALSE}

    def _node(self, variable: int, children: tuple[int, ...]) -> int:
        if len(set(children)) == 1:
            return children[0]
        number = self._numbers.setdefault((variable, children), len(self._nodes))
        if number == len(self._nodes):
            if number > _MOST_NODES:
                raise TooLarge(f"the rule needs a decision diagram of more than {_MOST_NODES} nodes")
            self._nodes.append((variable, children))
        return number

    def _children(self, diagram: int, variable: int) -> tuple[int, ...]:
        asked, children = self._nodes[diagram]
        return children if asked == variable else (diagram,) * self.sizes[variable]

    def literal(self, variable: int, value: int) -> int:
        """The variable has the value."""
        return self._node(variable, tuple(int(v == value) for v in range(self.sizes[variable])))

    def negation(self, a: int) -> int:
        if a not in self._negated:
            variable, children = self._nodes[a]
            self._negated[a] = self._node(variable, tuple(self.negation(child) for child in children))
        return self._negated[a]

    def combination(self, diagrams: Sequence[int], decides: int) -> int:
        """All of the diagrams if FALSE decides, at least one of them if TRUE decides."""
        if len(diagrams) > 2:  # in halves, which keeps the parts small for longest
            middle = len(diagrams) // 2
            diagrams = [self.combination(half, decides) for half in (diagrams[:middle], diagrams[middle:])]
        return functools.reduce(lambda a, b: self._pair(a, b, decides), diagrams)

    def _pair(self, a: int, b: int, decides: int) -> int:
        if a == b or decides in (a, b):
            return a if a == b else decides
        if a < 2 or b < 2:  # the other leaf
            return max(a, b)
        key = (min(a, b), max(a, b), decides)
        if key not in self._combined:
            variable = min(self._nodes[a][0], self._nodes[b][0])
            pairs = zip(self._children(a, variable), self._children(b, variable), strict=True)
            self._combined[key] = self._node(variable, tuple(self._pair(x, y, decides) for x, y in pairs))
        return self._combined[key]

    def __len__(self) -> int:
        """Number of nodes of all diagrams."""
        return len(self._nodes)

    def layers(self, root: int) -> list[list[list[int]]]:
        """For each variable, the positions (nodes, values) of its nodes' children among the nodes of the next variable.

        The first layer has one node, the root; the positions in the last are FALSE and TRUE. Every path asks for every
        variable, so that the sum is over all worlds even if probabilities do not sum to one.
        """
        layers, nodes = [], [root]
        for variable in range(len(self.sizes)):
            last = variable == len(self.sizes) - 1
            following = {FALSE: FALSE, TRUE: TRUE} if last else {}
            rows = [
                [following.setdefault(child, len(following)) for child in self._children(node, variable)]
                for node in nodes
            ]
            layers.append(rows)
            nodes = list(following)
        return layers
