"""Rules written for ProbLog, which grounds them once; torch evaluates them for a whole batch."""

import math
import re
from collections.abc import Iterator, Sequence
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
    from problog.logic import AnnotatedDisjunction, Clause, Constant, Or, Term, term2list
    from problog.program import PrologString
except ImportError:
    raise PluginError('rules for ProbLog need the extra `nesy`: pip install "sslx[nesy]"') from None

_DEEPEST = 10_000  # goals that may wait for others while a program is grounded; ProbLog itself has no limit


class ProbLog(Constraint):
    """A rule written for ProbLog: the exact probability of one query (De Raedt et al. 2007).

    Images are neural predicates (DeepProbLog, Manhaeve et al. 2018):

        nn(digit, [X], Y, [0..9]) :: digit(X, Y).

    says that image X, numbered from 0 in its set, shows one of these digits: an annotated disjunction whose
    probabilities the network gives. Facts and rules, with or without probabilities, negation and ProbLog's libraries
    can be used. Nothing is pruned, however improbable.
    """

    domains = tuple[int, ...]()  # known once the rules are read
    rules: str = option(help="Program in ProbLog, or the path of a .pl file with it.")

    def __attrs_post_init__(self) -> None:
        where = "rules"
        if self.rules.endswith(".pl") and "\n" not in self.rules:
            where = self.rules
            try:
                self.rules = Path(where).expanduser().read_text()  # keep the text: a run must not change with the file
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            self._compile(_ground(self.rules))
        except (ProbLogError, ConfigError) as error:
            raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise ConfigError(f"{where}: endless or too deep recursion") from None
        except (AttributeError, TypeError, LookupError, ValueError) as error:  # its parser does not check every text
            raise ConfigError(f"{where}: ProbLog cannot read it ({type(error).__name__}: {error})") from error

    def _compile(self, formula: Any) -> None:
        """Make the decision diagram of the ground program over its choices: images, and facts with probabilities."""
        choices: dict[Any, list[Any]] = {}  # the atoms that are the values of each choice
        for _, node, kind in formula:
            if kind == "atom" and not node.is_extra:
                choices.setdefault(node.group or node.identifier, []).append(node)
        self._images = [_image(atoms) for atoms in choices.values()]  # the image of each level; None for a fact
        # A fact has one more value than atoms: that none of them holds.
        sizes = [int(a[0].probability.args[3]) if _neural(a[0]) else len(a) + 1 for a in choices.values()]
        asked = {image: size for image, size in zip(self._images, sizes, strict=True) if image is not None}
        if not asked:
            raise ConfigError("the query depends on no image; write `nn(...) ::` predicates and use them in the query")
        if sorted(asked) != list(range(len(asked))):
            raise ConfigError(f"the query must ask for images 0, 1, ... without a gap, it asks for {sorted(asked)}")
        if len(asked) < sum(image is not None for image in self._images):
            raise ConfigError("an image has several neural predicates, or one that depends on more; expected one")
        self.domains = tuple(asked[image] for image in range(len(asked)))

        diagrams = Diagrams(sizes)
        found: dict[int | None, int] = {0: TRUE, None: FALSE}  # ProbLog's numbers of what is certain
        levels = {key: level for level, key in enumerate(choices)}

        def diagram(index: int | None) -> int:
            return diagrams.negation(found[-index]) if index and index < 0 else found[index]

        for index, node, kind in formula:
            if kind == "atom" and not node.is_extra:
                key = node.group or node.identifier
                value = int(node.probability.args[2]) if _neural(node) else choices[key].index(node)
                found[index] = diagrams.literal(levels[key], value)
            elif kind != "atom":
                children = [diagram(child) for child in node.children]
                found[index] = diagrams.combination(children, FALSE if kind == "conj" else TRUE)
        ((_, query),) = formula.queries()
        if (root := diagram(query)) == FALSE:
            raise ConfigError("the query is never true")
        layers = zip(diagrams.layers(root), self._images, choices.values(), strict=True)
        for level, (layer, image, atoms) in enumerate(layers):
            self.register_buffer(f"children{level}", layer, persistent=False)
            if image is None:
                self.register_buffer(f"log_p{level}", _probabilities(atoms).log(), persistent=False)

    def log_prob(self, log_p: Sequence[Tensor]) -> Tensor:
        value = log_p[0].new_tensor([-torch.inf, 0.0]).expand(len(log_p[0]), 2)  # (B, nodes), from the leaves up
        for level, image in reversed(list(enumerate(self._images))):
            p = self.get_buffer(f"log_p{level}").to(value) if image is None else log_p[image]
            value = logsumexp(value[:, self.get_buffer(f"children{level}")] + p[..., None, :])
        return value[:, 0]


def _neural(atom: Any) -> bool:
    return isinstance(atom.probability, Term) and atom.probability.functor == "nn"


def _image(atoms: list[Any]) -> int | None:
    """The number of the image whose class a choice is; None for a fact."""
    if not _neural(atoms[0]):
        return None
    predicate, image = atoms[0].probability.args[:2]
    if not (isinstance(image, Constant) and image.is_integer()):
        raise ConfigError(f"{predicate}({image}, ...): expected the number of an image, the first is 0")
    return int(image)


def _probabilities(atoms: list[Any]) -> Tensor:
    """Probabilities of the values of a fact, and that of none of them: (values + 1,) float64."""
    p = [float(atom.probability) for atom in atoms]
    rest = 1 - math.fsum(p)
    if min(p) < 0 or rest < -1e-9:
        raise ConfigError(f"expected probabilities that sum to at most 1, got {', '.join(map(str, p))}")
    return torch.tensor([*p, max(rest, 0.0)], dtype=torch.float64)


def _ground(text: str) -> Any:
    """The acyclic ground program of the one query."""
    text = re.sub(r"\[(\d+)\.\.(\d+)\]", lambda ends: str([*range(int(ends[1]), int(ends[2]) + 1)]), text)
    formula = _Engine().ground_all(_Program(text))
    if (n := len(list(formula.queries()))) != 1:
        raise ConfigError(f"expected one query, such as `query(rule(0, 1)).`, got {n}")
    if formula.evidence():
        raise ConfigError("a constraint cannot have evidence; make it part of the query")
    return LogicDAG.create_from(formula)


class _Program(PrologString):  # type: ignore[misc]
    """A program that replaces its neural predicates by annotated disjunctions."""

    def __iter__(self) -> Iterator[Any]:
        return map(self._written_out, super().__iter__())

    def _written_out(self, clause: Any) -> Any:
        if isinstance(clause, Or):
            alternatives, body = clause.to_list(), Term("true")
        elif isinstance(clause, AnnotatedDisjunction):
            alternatives, body = clause.heads, clause.body
        elif isinstance(clause, Clause):
            alternatives, body = [clause.head], clause.body
        else:
            alternatives, body = [clause], Term("true")
        if not any(map(_neural, alternatives)):
            return clause
        try:
            (head,) = alternatives
            name, inputs, output, domain = head.probability.args
            (image,), values = term2list(inputs, deep=False), term2list(domain, deep=False)
            place = head.args.index(output)
        except (ValueError, AttributeError):
            expected = "nn(digit, [X], Y, [0, 1, 2]) :: digit(X, Y)"
            where = self.lineno(clause.location)
            raise GroundingError(f"expected a neural predicate such as `{expected}`, got `{clause}`", where) from None
        heads = []
        for i, value in enumerate(values):
            p = Term("nn", name, image, Constant(i), Constant(len(values)))
            heads.append(Term(head.functor, *head.args[:place], value, *head.args[place + 1 :], p=p))
        return AnnotatedDisjunction(heads, body, location=clause.location)


class _Database(ClauseDB):  # type: ignore[misc]
    """Loads ProbLog's own libraries and no other file, because `use_module` can run a Python file."""

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
    def grow_stack(self) -> None:
        if self.stack_size > _DEEPEST:
            raise RecursionError
        super().grow_stack()

    def prepare(self, program: Any) -> Any:
        if isinstance(program, _Database):
            return program
        database = _Database.createFrom(program, builtins=self.get_builtins())
        database.engine = self
        self._process_directives(database)
        return database
