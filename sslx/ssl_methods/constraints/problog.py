"""Rules written for ProbLog: grounded by it, compiled once, evaluated by torch for the whole batch."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslx.api import ConfigError, Constraint, PluginError, logsumexp, option
from sslx.ssl_methods.constraints.diagrams import FALSE, TRUE, Diagrams

try:
    from problog import library_paths
    from problog.clausedb import ClauseDB
    from problog.engine import DefaultEngine
    from problog.errors import GroundingError, ProbLogError
    from problog.formula import LogicDAG
    from problog.logic import AnnotatedDisjunction, Constant, Term, Var, term2list
    from problog.program import PrologString
except ImportError:
    raise PluginError('rules for ProbLog need the extra `nesy`: pip install "sslx[nesy]"') from None


class ProbLog(Constraint):
    """The probability of one query under ProbLog's distribution semantics (De Raedt et al. 2007), exactly.

    Images enter as neural predicates (DeepProbLog, Manhaeve et al. 2018):

        nn(digit, [X], Y, [0, 1, 2]) :: digit(X, Y).

    says that image X, numbered from 0 in its set, shows one of these digits: an annotated disjunction whose
    probabilities are the network's. Facts and rules, both with or without probabilities, negation and ProbLog's own
    libraries may be used. Nothing is pruned, however improbable.
    """

    rules: str = option(help="ProbLog text, or the path of a .pl file that holds it")

    def __attrs_post_init__(self) -> None:
        where = "rules"
        if self.rules.endswith(".pl") and "\n" not in self.rules:
            where = self.rules
            try:
                self.rules = Path(where).expanduser().read_text()  # the text: a run must not change with the file
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', error)}") from None
        try:
            self._compile(_ground(self.rules))
        except ProbLogError as error:
            raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        except RecursionError:
            raise ConfigError(f"{where}: endless or too deep recursion") from None

    @property
    def domains(self) -> tuple[int, ...]:
        return self._domains

    def _compile(self, formula: Any) -> None:
        """Decision diagrams of all nodes of the ground program, over its images and its random facts."""
        atoms = {index: node for index, node, kind in formula if kind == "atom" and not node.is_extra}
        variables: dict[Hashable, dict[int, Any]] = {}  # for each variable what its values are
        for node in atoms.values():
            variables.setdefault(_variable(node), {})[_value(node)] = node.probability
        images = {key: next(iter(v.values())) for key, v in variables.items() if isinstance(key, int)}
        if sorted(images) != list(range(len(images))) or not images:
            raise ConfigError(f"the query must ask for images 0, 1, ... without a gap, it asks for {sorted(images)}")
        self._domains = tuple(int(images[i].args[3]) for i in range(len(images)))
        fixed = {key: _with_rest(values) for key, values in variables.items() if key not in images}
        sizes = [self._domains[key] if isinstance(key, int) else len(fixed[key]) for key in variables]
        levels = {key: level for level, key in enumerate(variables)}

        diagrams = Diagrams(sizes)
        found = {0: TRUE, None: FALSE}  # ProbLog's numbers for them

        def diagram(index: int) -> int:
            return diagrams.negation(found[-index]) if index and index < 0 else found[index]

        for index, node, kind in formula:
            if index in atoms:
                key, value = _variable(node), _value(node)
                value = value if key in images else list(variables[key]).index(value)
                found[index] = diagrams.literal(levels[key], value)
            elif kind in ("conj", "disj"):
                children = [diagram(child) for child in node.children]
                found[index] = diagrams.conjunction(children) if kind == "conj" else diagrams.disjunction(children)
        ((_, query),) = formula.queries()
        for level, (key, layer) in enumerate(zip(variables, diagrams.layers(diagram(query)), strict=True)):
            self.register_buffer(f"children{level}", layer, persistent=False)
            if key in fixed:
                weights = torch.tensor([fixed[key]], dtype=torch.float64)
                self.register_buffer(f"fixed{level}", weights.log(), persistent=False)
        self._order = [key if key in images else None for key in variables]  # the image that a level asks, if any

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        value = log_p[0].new_tensor([-torch.inf, 0.0]).expand(len(log_p[0]), 2)  # (B, nodes), from the leaves up
        for level, image in reversed(list(enumerate(self._order))):
            p = log_p[image] if image is not None else self.get_buffer(f"fixed{level}").to(value.dtype)
            value = logsumexp(value[:, self.get_buffer(f"children{level}")] + p[:, None])
        return value[:, 0]


def _variable(atom: Any) -> Hashable:
    """The random variable that an atom is a value of: the number of an image, or ProbLog's name of a choice."""
    if not _neural(atom.probability):
        return (atom.group or atom.identifier,)
    predicate, image = atom.probability.args[:2]
    if not (isinstance(image, Constant) and image.is_integer()):
        raise ConfigError(f"{predicate}({image}, ...): expected the number of an image, the first is 0")
    return int(image)


def _value(atom: Any) -> Hashable:
    return int(atom.probability.args[2]) if _neural(atom.probability) else atom.identifier


def _neural(probability: Any) -> bool:
    return isinstance(probability, Term) and probability.functor == "nn"


def _with_rest(values: dict[Any, Any]) -> list[float]:
    """The probabilities of a choice, and what remains for none of them."""
    p = [float(value) for value in values.values()]
    rest = 1 - math.fsum(p)
    if min(p) < 0 or rest < -1e-9:
        raise ConfigError(f"expected probabilities that sum to at most 1, got {', '.join(map(str, p))}")
    return [*p, max(rest, 0.0)]


# --- grounding --------------------------------------------------------------------------------------------------------


def _ground(text: str) -> Any:
    """The acyclic ground program of its one query."""
    engine = _Engine()
    formula = engine.ground_all(_Program(text))
    if (n := len(list(formula.queries()))) != 1:
        raise ConfigError(f"expected one query, as `query(rule(0, 1)).`, got {n}")
    if formula.evidence():
        raise ConfigError("evidence has no place in a constraint: make it part of the query")
    return LogicDAG.create_from(formula)


class _Program(PrologString):  # type: ignore[misc]
    """A program whose neural predicates are written out as annotated disjunctions."""

    def __iter__(self) -> Iterator[Any]:
        return map(self._written_out, super().__iter__())

    def _written_out(self, clause: Any) -> Any:
        head, body = (clause.head, clause.body) if clause.functor == ":-" else (clause, Term("true"))
        if not _neural(getattr(head, "probability", None)):
            return clause
        where = self.lineno(clause.location)
        try:
            name, inputs, output, domain = head.probability.args
            (image,), values = term2list(inputs), term2list(domain)
            assert isinstance(output, Var) and all(value.is_ground() for value in values)
        except (ValueError, AssertionError, AttributeError):
            expected = "nn(digit, [X], Y, [0, 1, 2]) :: digit(X, Y)"
            raise GroundingError(f"expected a neural predicate as `{expected}`, got `{head}`", where) from None
        heads = []
        for i, value in enumerate(values):
            p = Term("nn", name, image, Constant(i), Constant(len(values)))
            heads.append(head.apply(_Only(output.name, value)).with_probability(p))
        return AnnotatedDisjunction(heads, body, location=clause.location)


class _Only(dict[str, Any]):
    """A substitution of one variable, which leaves all others."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__({name: value})

    def __missing__(self, name: str) -> Any:
        return Var(name)


class _Database(ClauseDB):  # type: ignore[misc]
    """Loads ProbLog's own libraries and no other file: `use_module` would run a file of Python."""

    def resolve_filename(self, filename: Any) -> Any:
        path = super().resolve_filename(filename)
        if path is None or not any(Path(path).resolve().is_relative_to(Path(p).resolve()) for p in library_paths):
            where = self.lineno(getattr(filename, "location", None))
            raise GroundingError(f"only libraries of ProbLog can be loaded, not {filename}", where)
        return path

    def extend(self) -> Any:
        child = super().extend()
        child.__class__ = _Database
        return child


class _Engine(DefaultEngine):  # type: ignore[misc]
    def prepare(self, program: Any) -> Any:
        if isinstance(program, _Database):
            return program
        database = _Database.createFrom(program, builtins=self.get_builtins())
        database.engine = self
        self._process_directives(database)
        return database
