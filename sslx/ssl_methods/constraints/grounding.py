"""The process that compiles a rule: it has limits of time and memory, and no torch.

ProbLog may run for ever, in Python and in C, and may take any amount of memory. A process of its own can be ended
whatever it does, from any thread of the run.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from problog import library_paths
from problog.clausedb import ClauseDB
from problog.cycles import break_cycles
from problog.engine import DefaultEngine
from problog.errors import GroundingError, ProbLogError
from problog.formula import LogicDAG, LogicFormula
from problog.logic import AnnotatedDisjunction, Clause, Constant, Or, Term, term2list
from problog.program import PrologString

from sslx.ssl_methods.constraints.diagrams import FALSE, TRUE, Diagrams, TooLarge

_DEEPEST = 10_000  # goals that may wait for others while a program is grounded; ProbLog itself has no limit
_MOST_VALUES = 10_000  # values of one image
_ADVICE = "let each goal relate few images, as in a sum digit by digit with a carry"


class RuleError(Exception):
    """The rule is wrong."""


class _TimeIsUp(BaseException):
    """The rule takes too long. ProbLog catches no such exception."""


def main() -> None:
    """Read a job from standard input, and write the compiled rule, or what is wrong with it, to standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a program prints does not belong to the answer
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (job["bytes"], job["bytes"]))
    longest = int(job["seconds"]) + 60  # in case this process outlives the one that would end it
    resource.setrlimit(resource.RLIMIT_CPU, (longest, longest))
    json.dump(_answer(job), answer)
    answer.close()


def _answer(job: dict[str, Any]) -> dict[str, Any]:
    work = _Work()
    signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, job["seconds"])
    try:
        return work.compile(job["rules"])
    except (ProbLogError, RuleError) as error:
        return {"error": " ".join(str(error).split())}
    except RecursionError:
        return {"error": f"endless or too deep recursion{work}"}
    except TooLarge as error:
        return {"error": f"{error}; {_ADVICE}, or define log_prob of a Constraint"}
    except _TimeIsUp:
        return {
            "error": f"it takes more than {job['seconds']:g} s to compile{work}; {_ADVICE}, or set a larger `seconds`"
        }
    except MemoryError:
        return {"error": f"it takes more than {job['bytes'] / 1e9:.0f} GB of memory to compile{work}; {_ADVICE}"}
    except Exception as error:  # its parser does not check every text
        return {"error": f"ProbLog cannot read it ({type(error).__name__}: {' '.join(str(error).split())})"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _stop(*_: Any) -> NoReturn:
    raise _TimeIsUp


class _Work:
    """A program that is being compiled."""

    def __init__(self) -> None:
        self._engine, self._formula, self._dag, self._diagrams = _Engine(), LogicFormula(), LogicDAG(), Diagrams([])

    def __str__(self) -> str:
        """How far it is, and where, in words."""
        if len(self._diagrams) > 2:
            return f": its decision diagram has {len(self._diagrams)} nodes"
        sizes = f"{self._engine.pointer} goals are waiting, there are {len(self._formula)} ground clauses"
        if len(self._dag):
            sizes = f"{len(self._formula)} ground clauses have become {len(self._dag)} without cycles"
        return f"{self._engine.place()}: {sizes}"

    def compile(self, text: str) -> dict[str, Any]:
        """The decision diagram of the ground program over its choices: images, and facts with probabilities."""
        self._ground(text)
        choices: dict[Any, list[Any]] = {}  # the atoms that are the values of each choice
        for _, node, kind in self._dag:
            if kind == "atom" and not node.is_extra:
                choices.setdefault(node.group or node.identifier, []).append(node)
        images = [_image(atoms) for atoms in choices.values()]  # the image of each level; None for a fact
        # A fact has one more value than atoms: that none of them holds.
        sizes = [int(a[0].probability.args[3]) if _neural(a[0]) else len(a) + 1 for a in choices.values()]
        asked = {image: size for image, size in zip(images, sizes, strict=True) if image is not None}
        if not asked:
            raise RuleError("the query depends on no image; write `nn(...) ::` predicates and use them in the query")
        if sorted(asked) != list(range(len(asked))):
            raise RuleError(f"the query must ask for images 0, 1, ... without a gap, it asks for {sorted(asked)}")
        if len(asked) < sum(image is not None for image in images):
            raise RuleError("an image has several neural predicates, or one that depends on more; expected one")
        facts = [
            [float(atom.probability) for atom in atoms] if image is None else None
            for image, atoms in zip(images, choices.values(), strict=True)
        ]
        self._diagrams = Diagrams(sizes)
        if (root := self._diagram(choices)) == FALSE:
            raise RuleError("the query is never true")
        return {
            "domains": [asked[image] for image in range(len(asked))],
            "images": images,
            "facts": facts,
            "layers": self._diagrams.layers(root),
        }

    def _ground(self, text: str) -> None:
        """Make the acyclic ground program of the one query."""
        self._engine.ground_all(_Program(re.sub(r"\[(\d+)\.\.(\d+)\]", _domain, text)), target=self._formula)
        if (n := len(list(self._formula.queries()))) != 1:
            raise RuleError(f"expected one query, such as `query(rule(0, 1)).`, got {n}")
        if self._formula.evidence():
            raise RuleError("a constraint cannot have evidence; make it part of the query")
        break_cycles(self._formula, self._dag)

    def _diagram(self, choices: dict[Any, list[Any]]) -> int:
        """The root of the diagram of the query."""
        diagrams = self._diagrams
        found: dict[int | None, int] = {0: TRUE, None: FALSE}  # ProbLog's numbers of what is certain
        levels = {key: level for level, key in enumerate(choices)}

        def diagram(index: int | None) -> int:
            return diagrams.negation(found[-index]) if index and index < 0 else found[index]

        for index, node, kind in self._dag:
            if kind == "atom" and not node.is_extra:
                key = node.group or node.identifier
                value = int(node.probability.args[2]) if _neural(node) else choices[key].index(node)
                found[index] = diagrams.literal(levels[key], value)
            elif kind != "atom":
                children = [diagram(child) for child in node.children]
                found[index] = diagrams.combination(children, FALSE if kind == "conj" else TRUE)
        ((_, query),) = self._dag.queries()
        return diagram(query)


def _neural(atom: Any) -> bool:
    return isinstance(atom.probability, Term) and atom.probability.functor == "nn"


def _image(atoms: list[Any]) -> int | None:
    """The number of the image whose class a choice is; None for a fact."""
    if not _neural(atoms[0]):
        return None
    predicate, image = atoms[0].probability.args[:2]
    if not (isinstance(image, Constant) and image.is_integer()):
        raise RuleError(f"{predicate}({image}, ...): expected the number of an image, the first is 0")
    return int(image)


def _domain(ends: re.Match[str]) -> str:
    """`[0..2]` written out."""
    longest = max(map(len, ends.groups()))
    n = int(ends[2]) - int(ends[1]) + 1 if longest < 20 else _MOST_VALUES + 1
    if n > _MOST_VALUES:
        line = ends.string.count("\n", 0, ends.start()) + 1
        raise RuleError(f"{ends[0][:50]} at line {line}: expected at most {_MOST_VALUES} values")
    return str([*range(int(ends[1]), int(ends[2]) + 1)])


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
        if any(each.functor in ("':'", ":") and getattr(each.args[0], "functor", "") == "nn" for each in alternatives):
            raise GroundingError(f"expected `::` after nn(...), got `:` in `{clause}`", self.lineno(clause.location))
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
    _context: Any = None  # of the last goal

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

    def eval(self, node_id: Any, **context: Any) -> Any:
        if context.get("call_origin"):
            self._context = context
        return super().eval(node_id, **context)

    def place(self) -> str:
        """The last goal in words, with its line and column; empty before the first."""
        if self._context is None:
            return ""
        goal, location = self._context["call_origin"]
        _, line, column = self._context["database"].lineno(location) or (None, "?", "?")
        return f", in {goal} at {line}:{column}"
